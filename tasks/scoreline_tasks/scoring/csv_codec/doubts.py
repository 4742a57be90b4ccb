"""Texts of a chunk that were read as they stand, and may have meant something else: thousands, missing values.

Nothing of it is an error, and one chunk cannot decide it: `1.234` may be a number with three decimal places. The
client adds up what is reported of all chunks of a file (`scoreline_client.files.doubts`), and reports a doubt if no
chunk speaks against it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from scoreline_artifacts import Column, ColumnType, Schema
from scoreline_tasks.scoring.csv_codec.rows import ChunkRows, chunk_indices, read_fields
from scoreline_tasks.scoring.text_values import NUMBERS, TextRules

MISSING_WORDS = (
    *("NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "-nan", "NULL", "null", "None", "none"),
    *("-", "--", "?", "."),
)
"""Words for a missing value; `pandas.read_csv` takes most of them for one unless it is told otherwise."""
_GROUPED = r"^ *[+-]?[1-9][0-9]{0,2}(?:\.[0-9]{3})+ *\z"
"""Groups of three digits behind points. A first group that begins with 0 is no group of thousands."""
_FIRST = 200
"""Numbers that are looked at before all of a column are: where fractions are real, these show it."""


def doubts_of(rows: ChunkRows, schema: Schema, rules: TextRules) -> dict[str, Any] | None:
    """What a chunk's texts may have meant instead: `doubts`, and `settled`, the columns that speak against it.

    A doubt has `kind` (thousands, null), `column`, `count` and an `example`. None if there is nothing to tell.
    """
    indices = chunk_indices(rows.chunk)
    present = [column for column in schema.columns if column.name in indices and not column.unused]
    doubts, settled = [], list[str]()
    # In a file with commas between columns, points are decimal marks. Who names a mark for thousands leaves no doubt.
    may_be_grouped = rows.chunk.delimiter != "," and rules.is_plain and b"." in rows.data
    numbers = [column for column in present if column.type in NUMBERS]
    if may_be_grouped and numbers:
        for column, texts in texts_of(rows, numbers):
            pointed = texts.filter(pc.match_substring(texts, "."))
            # `1.234,5` is refused, and is no fraction.
            pointed = pointed.filter(pc.invert(pc.match_substring(pointed, ",")))
            grouped = _matching(pointed[:_FIRST])
            if len(grouped) == min(_FIRST, len(pointed)):
                grouped = _matching(pointed)
            if len(grouped) < len(pointed):
                settled.append(column.name)
            elif len(grouped):
                doubts.append(_doubt("thousands", column, grouped))
    words = pa.array([word for word in MISSING_WORDS if word not in rules.nulls], pa.string())
    for column in present:
        if column.type is ColumnType.STRING and column.nullable:
            texts = rows.texts(indices[column.name])
            categories = pa.array(
                [value for value in column.categories or () if type(value) is str]
            )
            missing = texts.filter(pc.is_in(texts, words))
            if len(missing) and len(categories):
                missing = missing.filter(pc.invert(pc.is_in(missing, categories)))
            if len(missing):
                doubts.append(_doubt("null", column, missing))
    return {"doubts": doubts, "settled": settled} if doubts or settled else None


def texts_of(rows: ChunkRows, columns: list[Column]) -> Iterable[tuple[Column, Any]]:
    """The fields of columns as texts, also where Arrow has read numbers at once."""
    indices = chunk_indices(rows.chunk)
    wanted = {indices[column.name]: pa.string() for column in columns}
    reread: dict[int, Any] = {}
    if any(not pa.types.is_string(rows.columns[index].type) for index in wanted):
        reread, _ = read_fields(rows.data, rows.chunk, wanted, quote="")
    for column in columns:
        index = indices[column.name]
        yield column, reread[index] if reread else rows.texts(index)


def _matching(texts: Any) -> Any:
    return texts.filter(pc.match_substring_regex(texts, _GROUPED))


def _doubt(kind: str, column: Column, texts: Any) -> dict[str, Any]:
    example = texts[0].as_py().strip(" ")
    return {"kind": kind, "column": column.name, "count": len(texts), "example": example[:80]}
