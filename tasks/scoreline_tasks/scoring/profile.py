"""`scoreline check`: what each column holds and what it should hold; nothing is scored.

A report speaks of one request. The client adds up those of all chunks of a file
(`scoreline_client.files.profile`), so everything in it is a count, a smallest or largest, or a few examples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from datetime import timedelta
from decimal import Decimal
from functools import partial
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
    Hints,
    Problem,
    array_of,
    is_out_of_range,
    is_unseen,
    shown,
)
from scoreline_client.codes import Code
from scoreline_client.options import RequestOptions
from scoreline_tasks.scoring.arrow_codec import check_table, python_values, read_table
from scoreline_tasks.scoring.csv_codec.codec import (
    check_count,
    checked_rows,
    open_chunk,
    text_rules,
)
from scoreline_tasks.scoring.csv_codec.convert import bytes_of, convert_texts, null_mask
from scoreline_tasks.scoring.csv_codec.doubts import doubts_of
from scoreline_tasks.scoring.csv_codec.rows import chunk_indices, read_chunk
from scoreline_tasks.scoring.json_codec import check_records
from scoreline_tasks.scoring.limits import Limits
from scoreline_tasks.scoring.predict import (
    CodecResult,
    Position,
    count_codes,
    count_faults,
    rejected_rows,
    rules_of,
)
from scoreline_tasks.scoring.text_values import TextRules, number_pattern

EXAMPLES = 5
BAD_ROWS = 10
"""Rejected rows with details, unless the request asks for another number."""
_INTEGER = r"^ *[+-]?[0-9]+ *\z"
_DATETIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ].*)?\z"
_BOOLEAN = r"^(?i:true|false)\z"
_TYPE_NAMES = {
    bool: "boolean",
    int: "integer",
    float: "number",
    Decimal: "number",
    str: "text",
    dict: "object",
    pd.Timestamp: "datetime",
    pd.Timedelta: "duration",
    timedelta: "duration",
}


def check_csv_chunk(body: bytes, loaded: LoadedVersion, limits: Limits) -> CodecResult:
    """Profile the rows of a `csv` body.

    Raises:
        WireError, RequestRefused: as when they are scored.
    """
    chunk, data, schema = open_chunk(body, loaded, limits)
    rules, indices = text_rules(chunk), chunk_indices(chunk)
    needed = [indices[name] for name in schema.names if name in indices]
    rows = read_chunk(chunk, data, needed or [0], limits)
    check_count(rows, schema, limits)
    arrays: dict[str, Any] = {}
    problems: dict[int, Problem] = {}
    hints = Hints(rules_of(chunk, limits))
    read: list[tuple[Column, dict[str, int], int, Collection[int]]] = []
    for column in schema.columns:
        if column.name not in indices:
            count = len(rows.readable)
            arrays[column.name] = array_of(column, [None] * count)
            read.append((column, {}, count, range(count)))
            continue
        texts = rows.texts(indices[column.name])
        bad: dict[int, Problem] = {}
        arrays[column.name] = convert_texts(column, texts, rules, bad)
        problems = bad | problems
        is_null = null_mask(texts, rules.nulls_of(column))
        present = texts.filter(pa.array(~is_null)) if is_null.any() else texts
        kinds, nulls = _kinds_of_texts(present, rules), int(is_null.sum())
        if column.type is ColumnType.DATETIME and rules.date_format:
            other = sum(not is_null[row] for row in bad)
            counted = {"datetime": len(present) - other, "text": other}
            kinds = {kind: number for kind, number in counted.items() if number}
        read.append((column, kinds, nulls, bad))
    profiles = [
        _profile(column, kinds, nulls, arrays[column.name], bad, problems, hints)
        for column, kinds, nulls, bad in read
    ]
    checked = checked_rows(rows, schema, arrays, problems, rules_of(chunk, limits))
    result = _result(len(rows), checked, profiles, loaded, chunk, rows.position)
    result.report = {**(result.report or {}), **(doubts_of(rows, schema, rules) or {})}
    return result


def check_arrow(
    body: bytes, loaded: LoadedVersion, options: RequestOptions, limits: Limits
) -> CodecResult:
    """Profile the rows of an IPC stream.

    Raises:
        RequestRefused: as when they are scored.
    """
    table = read_table(body, loaded, limits)
    checked = check_table(table, loaded, options, limits)
    rejected = _rejected_otherwise(checked)
    hints = Hints(rules_of(options, limits))
    profiles = [
        _profile_values(
            column,
            python_values(table, column.name, limits)
            if column.name in table.column_names
            else [None] * table.num_rows,
            rejected,
            hints,
        )
        for column in (loaded.schema.columns if loaded.schema else ())
    ]
    return _result(table.num_rows, checked, profiles, loaded, options)


def check_json(
    records: list[Any], loaded: LoadedVersion, options: RequestOptions, limits: Limits
) -> CodecResult:
    """Profile records of JSON."""
    checked = check_records(records, loaded, options, limits)
    hints = Hints(rules_of(options, limits))
    rejected = _rejected_otherwise(checked)
    profiles = []
    for column in loaded.schema.columns if loaded.schema else ():
        rows = [
            row
            for row, record in enumerate(records)
            if isinstance(record, dict) and column.name in record
        ]
        values = [records[row][column.name] for row in rows]
        bad = {index for index, row in enumerate(rows) if row in rejected}
        profiles.append(_profile_values(column, values, bad, hints))
    return _result(len(records), checked, profiles, loaded, options)


def _result(
    count: int,
    checked: CheckedRecords,
    profiles: list[dict[str, Any]],
    loaded: LoadedVersion,
    options: RequestOptions,
    position: Position | None = None,
) -> CodecResult:
    rejected = Counter(problem.column for problem in checked.problems)
    for profile in profiles:
        profile["rejected"] = rejected[profile["name"]]
    problems = {problem.record: problem for problem in checked.problems}
    faults = count_faults(checked.problems)
    return CodecResult(
        records=count,
        classes=loaded.classes,
        rejected=count_codes(faults),
        faults=faults,
        problems=rejected_rows(
            problems,
            options.problems or BAD_ROWS,
            position or (lambda row: {"row": options.first_row + row}),
        ),
        report={"columns": profiles},
    )


# One column


def _kinds_of_texts(texts: Any, rules: TextRules) -> dict[str, int]:
    """How many texts look like a value of which type."""
    if len(texts) and not bytes(bytes_of(texts)).translate(None, b"0123456789"):
        return {"integer": len(texts)}
    bare = pc.utf8_trim(texts, " ")

    def matches(pattern: str) -> npt.NDArray[np.bool_]:
        return np.array(pc.match_substring_regex(bare, pattern), dtype=bool)

    is_integer = matches(_INTEGER)
    number = number_pattern(rules.decimal, rules.thousands).replace("$", r"\z")
    kinds = {"integer": is_integer, "number": matches(number) & ~is_integer}
    rest = ~(is_integer | kinds["number"])
    if rest.any():
        kinds["boolean"] = matches(_BOOLEAN)
        kinds["datetime"] = matches(_DATETIME)
        kinds["text"] = rest & ~kinds["boolean"] & ~kinds["datetime"]
    return {name: int(mask.sum()) for name, mask in kinds.items() if mask.any()}


def _rejected_otherwise(checked: CheckedRecords) -> set[int]:
    """Records that are rejected for another reason than a value that training did not have."""
    unlike = (Code.CATEGORY, Code.OUT_OF_RANGE)
    return {problem.record for problem in checked.problems if problem.code not in unlike}


def _profile_values(
    column: Column, values: list[Any], rejected: Collection[int], hints: Hints
) -> dict[str, Any]:
    """The profile of a column whose values have types of their own; `rejected`: indices of those of rejected rows."""
    present = [value for value in values if value is not None]
    kinds = Counter(_TYPE_NAMES.get(type(value), type(value).__name__) for value in present)
    is_number = column.type in (ColumnType.INTEGER, ColumnType.NUMBER)
    fitting = (int, float) if is_number else (str,)
    indices = [index for index, value in enumerate(values) if type(value) in fitting]
    chosen = [values[index] for index in indices]
    array = np.array(chosen, np.float64) if is_number else pd.Series(chosen, dtype=object)
    bad = {row for row, index in enumerate(indices) if index in rejected}
    return _profile(column, dict(kinds), len(values) - len(present), array, (), bad, hints)


def _profile(
    column: Column,
    kinds: dict[str, int],
    nulls: int,
    array: Any,
    bad: Collection[int],
    rejected: Collection[int],
    hints: Hints,
) -> dict[str, Any]:
    """What a column holds; the values of `array` at `bad` indices have no meaning.

    Of the values that training did not have, the profile also counts those at `rejected` indices: `score` does not warn
    of a row that it rejects.
    """
    is_good = np.ones(len(array), dtype=bool)
    is_good[list(bad)] = False
    values = pd.Series(array)[is_good]

    def unlike(unusual: pd.Series[Any], examples: list[dict[str, Any]]) -> dict[str, Any]:
        in_rejected = int(unusual.index.isin(list(rejected)).sum())
        summary = {"count": len(unusual), "examples": examples}
        return summary | ({"rejected": in_rejected} if in_rejected else {})

    profile: dict[str, Any] = {
        "name": column.name,
        "type": column.type.value,
        "nullable": column.nullable,
        "found": kinds,
        "nulls": nulls,
    }
    if column.type in (ColumnType.INTEGER, ColumnType.NUMBER):
        present = values.dropna()
        present = present[np.isfinite(present.to_numpy(dtype=np.float64))]
        outside = present[is_out_of_range(column, present.array)]
        profile["training"] = [column.minimum, column.maximum]
        profile["out_of_range"] = unlike(outside, _examples(outside))
        if len(present):
            profile |= {"minimum": float(present.min()), "maximum": float(present.max())}
    elif column.type is ColumnType.STRING and column.categories is not None:
        unseen = values[is_unseen(column, values.array)]
        profile["unseen"] = unlike(unseen, _examples(unseen, partial(hints.near, column)))
    return profile


def _examples(
    values: pd.Series[Any], nearest: Callable[[str], str | None] = lambda _: None
) -> list[dict[str, Any]]:
    """The most frequent values, how often each is there, and the known value that was probably meant."""
    examples = []
    counts = values.value_counts().head(EXAMPLES)
    for value, count in zip(counts.index.tolist(), counts.tolist(), strict=True):
        example = {"value": shown(value), "count": count}
        near = nearest(str(value))
        examples.append(example if near is None else example | {"nearest": near})
    return examples
