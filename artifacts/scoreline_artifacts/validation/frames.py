"""Raw records to the frame that the pipeline was trained on, with one problem per bad record.

The rules are Scoreline's own and the same for records of every format: nothing is guessed, and nothing
is converted that would change a value. Columns are converted at once; only a column that holds something
unexpected is converted value by value (`convert.py`). The fast path here is for a few records of nothing
but plain numbers, and gives the same frame in a third of the time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from scoreline_artifacts.schema import Column, ColumnType, Schema
from scoreline_artifacts.validation.convert import (
    EXACT_IN_FLOAT,
    SameObject,
    convert_column,
    convert_values,
    whole_numbers,
)
from scoreline_artifacts.validation.problems import (
    MOST_HINTS,
    NO_RULES,
    Anomaly,
    Hints,
    Problem,
    Rules,
    UnreadableRecord,
    find_anomalies,
    kind_of,
    shown,
    with_hints,
)
from scoreline_artifacts.validation.rows import CheckedRows, taken
from scoreline_client.protocol.names import near_name

Values: TypeAlias = Sequence[Any] | npt.NDArray[Any] | pd.api.extensions.ExtensionArray
Reading = Callable[[Column, Values], Values]
"""Changes the values of a column before they are checked."""
FAST_PATH_RECORDS = 128
"""With more records, numpy checks faster than `min` and `max` whether all numbers are plain."""


@dataclass(frozen=True, slots=True)
class CheckedRecords:
    """Records checked against a schema."""

    rows: CheckedRows
    """The good records, in order, with the columns and types of training."""
    good: npt.NDArray[np.intp] | None
    """The indices of the good records; None when all are good."""
    problems: list[Problem]
    """One for each bad record, in order."""
    anomalies: list[Anomaly] = field(default_factory=list)
    """Of good records, if the rules ask for them."""
    hints: Hints | None = None
    """What was probably meant by anomalous values; None where there are none."""

    @property
    def frame(self) -> pd.DataFrame:
        """The good records as a frame."""
        return self.rows.frame

    @property
    def indices(self) -> npt.NDArray[np.intp]:
        """The indices of the good records."""
        return np.arange(len(self.rows)) if self.good is None else self.good


def frame_of_records(
    records: Sequence[object],
    schema: Schema | None,
    *,
    rules: Rules = NO_RULES,
    reading: Reading | None = None,
) -> CheckedRecords:
    """Check records against a schema; the good ones have the columns and types of the pipeline's frame.

    Without a schema, any mappings are taken as they are.
    """
    if schema is None:
        problems = [
            _no_record(index, record)
            for index, record in enumerate(records)
            if not isinstance(record, Mapping)
        ]
        good = [index for index, record in enumerate(records) if isinstance(record, Mapping)]
        frame = pd.DataFrame([records[index] for index in good])
        indices = np.array(good, dtype=np.intp) if problems else None
        return CheckedRecords(CheckedRows.of(frame), indices, problems)
    try:
        # Every decoder makes dicts; other mappings are checked record by record.
        columns: dict[str, Sequence[Any]] = {
            column.name: (
                [record.get(column.name) for record in records]  # type: ignore[attr-defined]
                if column.optional or column.unused
                else [record[column.name] for record in records]  # type: ignore[index]
            )
            for column in schema.columns
        }
    except (KeyError, TypeError, IndexError, AttributeError):
        return _record_by_record(records, schema, rules, reading)
    if set(map(type, records)) - {dict}:
        return _record_by_record(records, schema, rules, reading)
    if reading is None:
        fast = fast_path(columns, len(records), schema)
        if fast is not None:
            return CheckedRecords(fast, None, [], [])
    return frame_of_columns(columns, len(records), schema, rules=rules, reading=reading)


def frame_of_columns(
    columns: Mapping[str, Values],
    count: int,
    schema: Schema,
    *,
    rules: Rules = NO_RULES,
    reading: Reading | None = None,
) -> CheckedRecords:
    """As `frame_of_records` for `count` values of each column; if a column is missing, every record has a problem."""
    arrays: dict[str, Any] = {}
    problems: dict[int, Problem] = {}
    for column in schema.columns:
        if column.name not in columns and not column.may_be_left_out:
            message = missing_column(column.name, list(columns))
            missing = [
                Problem(row, "E_MISSING_COLUMN", message, column.name) for row in range(count)
            ]
            empty = frame_of_columns({name: [] for name in schema.names}, 0, schema).rows
            good = np.array([], dtype=np.intp) if missing else None
            return CheckedRecords(empty, good, missing)
        values = columns[column.name] if column.name in columns else [None] * count
        if reading is not None:
            values = reading(column, values)
        array = convert_column(column, values)
        if array is None:
            array = convert_values(column, values, problems)
        arrays[column.name] = array
    return frame_of_arrays(arrays, count, schema, problems, rules)


def frame_of_arrays(
    arrays: Mapping[str, Any],
    count: int,
    schema: Schema,
    problems: dict[int, Problem],
    rules: Rules,
) -> CheckedRecords:
    """As `frame_of_columns` for converted arrays; their values at the index of a problem have no meaning.

    Records with a value that `rules` refuse get a problem too.
    """
    anomalies = find_anomalies(schema, arrays, rules, problems)
    hints = Hints(rules) if anomalies or problems else None
    names, columns = tuple(arrays), list(arrays.values())
    if not problems:
        rows = CheckedRows(names, columns, count if columns else 0)
        return CheckedRecords(rows, None, [], anomalies, hints)
    is_good = np.ones(count, dtype=bool)
    is_good[list(problems)] = False
    good = np.flatnonzero(is_good)
    listed = with_hints(problems, schema, hints) if hints else []
    rows = CheckedRows(names, taken(columns, good), len(good))
    return CheckedRecords(rows, good, listed, anomalies, hints)


def renumbered(
    checked: CheckedRecords,
    indices: Sequence[int] | npt.NDArray[np.intp],
    problems: Sequence[Problem],
) -> CheckedRecords:
    """The result for some records, numbered as among all records and with the problems of the others.

    `indices` are the indices of the checked records among all.
    """
    among_all = np.asarray(indices, dtype=np.intp)
    moved = [
        replace(problem, record=int(among_all[problem.record])) for problem in checked.problems
    ]
    anomalies = [
        replace(anomaly, records=among_all[anomaly.records]) for anomaly in checked.anomalies
    ]
    ordered = sorted([*problems, *moved], key=lambda problem: problem.record)
    return CheckedRecords(
        checked.rows, among_all[checked.indices], ordered, anomalies, checked.hints
    )


def _no_record(index: int, record: object) -> Problem:
    if isinstance(record, UnreadableRecord):
        return Problem(index, record.code, record.message)
    message = f"the record is {kind_of(record)}; expected an object with a value for each column"
    return Problem(index, "E_TYPE", message, None, shown(record))


def _record_by_record(
    records: Sequence[object], schema: Schema, rules: Rules, reading: Reading | None
) -> CheckedRecords:
    """Find records that lack a column or are no mappings, and check the others by column."""
    problems: list[Problem] = []
    good: list[int] = []
    demanded, names = schema.demanded, frozenset(schema.names)
    for index, record in enumerate(records):
        if not isinstance(record, Mapping):
            problems.append(_no_record(index, record))
            continue
        missing = next((name for name in demanded if name not in record), None)
        if missing is None:
            good.append(index)
        else:
            # A caller most likely has the same wrong name for it in all records.
            is_first = len(problems) < MOST_HINTS
            unknown = (key for key in record if isinstance(key, str) and key not in names)
            message = missing_column(missing, unknown if is_first else ())
            problems.append(Problem(index, "E_MISSING_COLUMN", message, missing))
    columns = {name: [records[index].get(name) for index in good] for name in schema.names}  # type: ignore[attr-defined]
    checked = frame_of_columns(columns, len(good), schema, rules=rules, reading=reading)
    return renumbered(checked, good, problems)


def missing_column(name: str, candidates: Iterable[str]) -> str:
    """The message for a missing column; asks whether the nearest of the candidates was meant."""
    near = near_name(name, candidates)
    hint = "" if near is None else f"; did you mean it by {near[:80]!r}?"
    return f"column {name!r} is missing{hint}"


# The fast path: a few records of whole numbers and numbers, all within the ranges of training.


def fast_path(
    columns: Mapping[str, Sequence[Any]], count: int, schema: Schema
) -> CheckedRows | None:
    """A few records, (count,) values by column; None if a value is anything but a plain number."""
    plan = _plan_of(SameObject(schema)) if 0 < count <= FAST_PATH_RECORDS else None
    if plan is None:
        return None
    arrays: list[Any] = [None] * len(plan.names)
    for block in plan.blocks:
        values: list[Sequence[Any]] = []
        for name, least, most in block.bounds:
            column = columns[name]
            types = set(map(type, column))
            if not block.accepted.issuperset(types):
                return None
            if block.dtype is np.int64 and float in types:
                whole = whole_numbers(column)
                if whole is None:
                    return None
                column = whole
            if not (least <= min(column) and max(column) <= most):
                return None
            values.append(column)
        array = np.array(values, dtype=block.dtype)  # (columns, records)
        # min and max may overlook a NaN.
        if not np.isfinite(array).all():
            return None
        for position, row in zip(block.positions, array, strict=True):
            arrays[position] = row
    return CheckedRows(plan.names, arrays, count)


@dataclass(frozen=True, slots=True)
class _Block:
    """The columns of one type."""

    dtype: type[Any]
    accepted: frozenset[type]
    """The Python types of values that need no conversion but numpy's."""
    positions: tuple[int, ...]
    bounds: tuple[tuple[str, float, float], ...]
    """Name, smallest and largest value of each column."""


@dataclass(frozen=True, slots=True)
class _Plan:
    names: tuple[str, ...]
    blocks: tuple[_Block, ...]


@lru_cache(maxsize=256)
def _plan_of(key: SameObject) -> _Plan | None:
    """What the fast path takes for a schema; None if it has columns of other types."""
    columns = key.held.columns
    accepted_types: dict[tuple[ColumnType, str], tuple[type[Any], frozenset[type]]] = {
        (ColumnType.INTEGER, "int64"): (np.int64, frozenset({int, float})),
        (ColumnType.NUMBER, "float64"): (np.float64, frozenset({int, float})),
    }
    types = [(column.type, column.dtype) for column in columns]
    if not accepted_types.keys() >= set(types):
        return None
    blocks: list[_Block] = []
    for wanted, (dtype, accepted) in accepted_types.items():
        positions = [index for index, column_type in enumerate(types) if column_type == wanted]
        limit = EXACT_IN_FLOAT if dtype is np.int64 else sys.float_info.max
        bounds: list[tuple[str, float, float]] = []
        for index in positions:
            # A value within the bounds of training is no anomaly. Beyond the limit, these floats may be rounded.
            low, high = columns[index].minimum, columns[index].maximum
            least = -limit if low is None else max(low, -limit)
            most = limit if high is None else min(high, limit)
            bounds.append((columns[index].name, least, most))
        if positions:
            blocks.append(_Block(dtype, accepted, tuple(positions), tuple(bounds)))
    return _Plan(tuple(key.held.names), tuple(blocks))
