"""What `scoreline check` says of records: each column as it is and as it should be; nothing is scored.

A report speaks of one request. Those of all slices of a file are added up by the client
(`scoreline_client.files.profile`), so everything in it is a count, a smallest or largest, or a few examples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from scoreline_artifacts import Column, ColumnType
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_artifacts.validation import (
    CheckedRecords,
    Problem,
    is_out_of_range,
    is_unseen,
    nearest_category,
    shown,
)
from scoreline_client.options import RequestOptions
from scoreline_tasks.scoring.arrow_codec import check_table, read_table
from scoreline_tasks.scoring.csv_codec.codec import checked_rows, open_chunk, text_rules
from scoreline_tasks.scoring.csv_codec.convert import bytes_of, convert_texts, null_mask
from scoreline_tasks.scoring.csv_codec.rows import ChunkRows, chunk_indices, read_chunk
from scoreline_tasks.scoring.json_codec import check_records
from scoreline_tasks.scoring.outputs import Position, count_codes, rejected_rows, rules_of
from scoreline_tasks.scoring.predict import CodecResult
from scoreline_tasks.scoring.text_values import TextRules, number_pattern

EXAMPLES = 5
BAD_ROWS = 10
"""So many bad rows are told of, unless the request asks for another number."""
_INTEGER = r"^ *[+-]?[0-9]+ *\z"
_MOMENT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ].*)?\z"
_BOOLEAN = r"^(?i:true|false)\z"


def check_csv_chunk(body: bytes, loaded: LoadedVersion) -> CodecResult:
    """Look at the rows of a `csv` body.

    Raises:
        WireError, RequestProblem: as when they are scored.
    """
    chunk, data, schema = open_chunk(body, loaded)
    indices = chunk_indices(chunk)
    rows = read_chunk(chunk, data, [indices[name] for name in schema.names])
    looked_at = [_LookedAt.of(one, rows, indices[one.name]) for one in schema.columns]
    problems: dict[int, Problem] = {}
    for one in looked_at:
        problems = one.problems | problems
    arrays = {one.column.name: one.array for one in looked_at}
    checked = checked_rows(rows, schema, arrays, problems, rules_of(rows.chunk))
    columns = [one.told() for one in looked_at]
    return _result(len(rows), checked, columns, loaded, rows.chunk, rows.position)


def check_arrow(body: bytes, loaded: LoadedVersion, options: RequestOptions) -> CodecResult:
    """Profile the rows of an IPC stream.

    Raises:
        RequestProblem: as when they are scored.
    """
    table = read_table(body)
    checked = check_table(table, loaded, options)
    columns = [
        _typed_column(one, table.column(one.name).to_pylist())
        for one in (loaded.schema.columns if loaded.schema else ())
    ]
    return _typed_result(table.num_rows, checked, columns, loaded, options)


def check_json(records: list[Any], loaded: LoadedVersion, options: RequestOptions) -> CodecResult:
    """Profile records of JSON."""
    checked = check_records(records, loaded, options)
    mappings = [one for one in records if isinstance(one, dict)]
    columns = [
        _typed_column(one, [record[one.name] for record in mappings if one.name in record])
        for one in (loaded.schema.columns if loaded.schema else ())
    ]
    return _typed_result(len(records), checked, columns, loaded, options)


def _typed_result(
    count: int,
    checked: CheckedRecords,
    columns: list[dict[str, Any]],
    loaded: LoadedVersion,
    options: RequestOptions,
) -> CodecResult:
    return _result(
        count, checked, columns, loaded, options, lambda row: {"row": options.first_row + row}
    )


def _result(
    count: int,
    checked: CheckedRecords,
    columns: list[dict[str, Any]],
    loaded: LoadedVersion,
    options: RequestOptions,
    position: Position,
) -> CodecResult:
    rejected = Counter(one.column for one in checked.problems)
    for column in columns:
        column["rejected"] = rejected[column["name"]]
    problems = {one.record: one for one in checked.problems}
    return CodecResult(
        records=count,
        classes=loaded.classes,
        rejected=count_codes(checked.problems),
        problems=rejected_rows(problems, options.problems or BAD_ROWS, position),
        report={"columns": columns},
    )


# One column


@dataclass(frozen=True, slots=True)
class _LookedAt:
    """A column of text, converted."""

    column: Column
    texts: Any
    is_null: npt.NDArray[np.bool_]
    array: Any
    problems: dict[int, Problem]
    rules: TextRules

    @classmethod
    def of(cls, column: Column, rows: ChunkRows, place: int) -> _LookedAt:
        rules, texts = text_rules(rows.chunk), rows.texts(place)
        problems: dict[int, Problem] = {}
        array = convert_texts(column, texts, rules, problems)
        return cls(column, texts, null_mask(texts, rules), array, problems, rules)

    def told(self) -> dict[str, Any]:
        """What is said of it."""
        present = self.texts
        if self.is_null.any():
            present = present.filter(pa.array(~self.is_null))
        kinds = _kinds_of_texts(present, self.rules)
        return _column(self.column, kinds, int(self.is_null.sum()), self.array, self.problems)


def _kinds_of_texts(texts: Any, rules: TextRules) -> dict[str, int]:
    """How many texts look like what."""
    if len(texts) and not bytes(bytes_of(texts)).translate(None, b"0123456789"):
        return {"integer": len(texts)}
    bare = pc.utf8_trim(texts, " ")
    is_integer = _matches(bare, _INTEGER)
    number = number_pattern(rules.decimal, rules.thousands).replace("$", r"\z")
    is_number = _matches(bare, number) & ~is_integer
    found = {"integer": is_integer, "number": is_number}
    rest = ~(is_integer | is_number)
    if rest.any():
        found["boolean"] = _matches(bare, _BOOLEAN)
        found["datetime"] = _matches(bare, _MOMENT)
        found["text"] = rest & ~found["boolean"] & ~found["datetime"]
    return {name: int(mask.sum()) for name, mask in found.items() if mask.any()}


def _matches(texts: Any, pattern: str) -> npt.NDArray[np.bool_]:
    return np.array(pc.match_substring_regex(texts, pattern), dtype=bool)


_KINDS = {bool: "boolean", int: "integer", float: "number", str: "text", dict: "object"}


def _typed_column(column: Column, values: list[Any]) -> dict[str, Any]:
    """The same where values have types of their own."""
    present = [one for one in values if one is not None]
    kinds = Counter(_KINDS.get(type(one), type(one).__name__) for one in present)
    numbers = [one for one in present if type(one) in (int, float)]
    texts = [one for one in present if type(one) is str]
    array: Any = (
        np.array(numbers, dtype=np.float64)
        if column.type in (ColumnType.INTEGER, ColumnType.NUMBER)
        else pd.Series(texts, dtype=object)
    )
    return _column(column, dict(kinds), len(values) - len(present), array, {})


def _column(
    column: Column,
    kinds: dict[str, int],
    nulls: int,
    array: Any,
    problems: Mapping[int, Problem],
) -> dict[str, Any]:
    """What is said of a column. What `array` holds where there is a problem is passed over."""
    is_good = np.ones(len(array), dtype=bool)
    is_good[list(problems)] = False
    values = pd.Series(array)[is_good]
    found: dict[str, Any] = {
        "name": column.name,
        "type": column.type.value,
        "nullable": column.nullable,
        "found": kinds,
        "nulls": nulls,
        "bad": len(problems),
    }
    if column.type in (ColumnType.INTEGER, ColumnType.NUMBER):
        found |= _numbers(column, values)
    elif column.type is ColumnType.STRING:
        found |= _texts(column, values)
    return found


def _numbers(column: Column, values: pd.Series[Any]) -> dict[str, Any]:
    present = values.dropna()
    present = present[np.isfinite(present.to_numpy(dtype=np.float64))]
    outside = present[is_out_of_range(column, present.array)]
    found: dict[str, Any] = {
        "training": [column.minimum, column.maximum],
        "out_of_range": _examples(outside),
    }
    if len(present):
        found |= {"minimum": float(present.min()), "maximum": float(present.max())}
    return found


def _texts(column: Column, values: pd.Series[Any]) -> dict[str, Any]:
    if column.categories is None:
        return {}
    unseen = _examples(values[is_unseen(column, values.array)])
    for one in unseen["examples"]:
        near = nearest_category(column, one["text"])
        one |= {"nearest": near} if near is not None else {}
    return {"categories": len(column.categories), "unseen": unseen}


def _examples(values: pd.Series[Any]) -> dict[str, Any]:
    counts = values.value_counts().head(EXAMPLES)
    examples = [
        {"value": shown(value), "text": str(value)[:80], "count": count}
        for value, count in zip(counts.index.tolist(), counts.tolist(), strict=True)
    ]
    return {"count": len(values), "examples": examples}
