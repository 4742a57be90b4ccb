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
    convert_column,
    convert_values,
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
from scoreline_client.protocol.names import near_name

try:
    from pandas.api.internals import create_dataframe_from_blocks
except ImportError:  # before pandas 3
    create_dataframe_from_blocks = None

Values: TypeAlias = Sequence[Any] | npt.NDArray[Any] | pd.api.extensions.ExtensionArray
Reading = Callable[[Column, Values], Values]
"""Changes the values of a column before they are checked."""
FAST_PATH_RECORDS = 128
"""Of more records, numpy finds out faster than `min` and `max` do whether all numbers are plain."""

_column_index = lru_cache(maxsize=256)(pd.Index)
_row_index = lru_cache(maxsize=FAST_PATH_RECORDS)(pd.RangeIndex)


@dataclass(frozen=True, slots=True)
class CheckedRecords:
    """Records checked against a schema."""

    frame: pd.DataFrame
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
    def indices(self) -> npt.NDArray[np.intp]:
        """The indices of the good records."""
        return np.arange(len(self.frame)) if self.good is None else self.good


def frame_of_records(
    records: Sequence[object],
    schema: Schema | None,
    *,
    rules: Rules = NO_RULES,
    reading: Reading | None = None,
) -> CheckedRecords:
    """Check records against a schema and build the pipeline's frame from the good ones.

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
        return CheckedRecords(frame, np.array(good, dtype=np.intp) if problems else None, problems)
    try:
        # Every decoder makes dicts; other mappings take the slower way.
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
    """The same for `count` values of each column; if a column is missing, every record has a problem."""
    arrays: dict[str, Any] = {}
    problems: dict[int, Problem] = {}
    for column in schema.columns:
        if column.name not in columns and not column.may_be_left_out:
            message = missing_column(column.name, list(columns))
            missing = [
                Problem(row, "E_MISSING_COLUMN", message, column.name) for row in range(count)
            ]
            empty = frame_of_columns({name: [] for name in schema.names}, 0, schema).frame
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
    """The same for converted arrays, whose values at the index of a problem have no meaning.

    Records with a value that `rules` refuse get a problem too.
    """
    anomalies = find_anomalies(schema, arrays, rules, problems)
    hints = Hints(rules) if anomalies or problems else None
    if not problems:
        # Frames of the same columns share an index of their names: pandas need neither make it for each
        # batch nor hash the names again when the pipeline selects some.
        # Columns of a type become one block of memory, as they were when the training frame was read: numbers are
        # added up in the same order then, to the last bit. And it is memory that a pipeline may write to.
        frame = pd.DataFrame(dict(enumerate(arrays.values())), copy=True)
        # A view has its own name, should a pipeline give it one.
        frame.columns = _column_index(tuple(arrays)).view()
        return CheckedRecords(frame, None, [], anomalies, hints)
    is_good = np.ones(count, dtype=bool)
    is_good[list(problems)] = False
    good = np.flatnonzero(is_good)
    kept: dict[str, Any] = {}
    for name, array in arrays.items():
        taken = array.take(good)
        kept[name] = taken.reset_index(drop=True) if isinstance(taken, pd.Series) else taken
    frame = pd.DataFrame(kept, index=range(len(good)))
    listed = with_hints(problems, schema, hints) if hints else []
    return CheckedRecords(frame, good, listed, anomalies, hints)


def renumbered(
    checked: CheckedRecords,
    indices: Sequence[int] | npt.NDArray[np.intp],
    problems: Sequence[Problem],
) -> CheckedRecords:
    """The outcome for some records as a part of that for all.

    `indices` are the records' indices among all; `problems` are those of the other records.
    """
    among_all = np.asarray(indices, dtype=np.intp)
    moved = [replace(each, record=int(among_all[each.record])) for each in checked.problems]
    anomalies = [replace(each, records=among_all[each.records]) for each in checked.anomalies]
    ordered = sorted([*problems, *moved], key=lambda problem: problem.record)
    return CheckedRecords(
        checked.frame, among_all[checked.indices], ordered, anomalies, checked.hints
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
            # Whose records lack it have the same wrong name for it, most likely.
            is_first = len(problems) < MOST_HINTS
            unknown = (key for key in record if isinstance(key, str) and key not in names)
            message = missing_column(missing, unknown if is_first else ())
            problems.append(Problem(index, "E_MISSING_COLUMN", message, missing))
    columns = {name: [records[index].get(name) for index in good] for name in schema.names}  # type: ignore[attr-defined]
    checked = frame_of_columns(columns, len(good), schema, rules=rules, reading=reading)
    return renumbered(checked, good, problems)


def missing_column(name: str, candidates: Iterable[str]) -> str:
    """The message for a missing column; one of the candidates may be meant to be it."""
    near = near_name(name, candidates)
    hint = "" if near is None else f"; did you mean it by {near[:80]!r}?"
    return f"column {name!r} is missing{hint}"


# The fast path: a few records of whole numbers and numbers, all within the ranges of training. Their frame is
# made of one block of memory for each type, as pandas would arrange it when a pipeline first reads it.


def fast_path(
    columns: Mapping[str, Sequence[Any]], count: int, schema: Schema
) -> pd.DataFrame | None:
    """The frame of a few records, (count,) values by column; None if a value is anything but a plain number."""
    plan = _plan_of(_SameSchema(schema)) if 0 < count <= FAST_PATH_RECORDS else None
    if plan is None:
        return None
    blocks: list[tuple[Any, Any]] = []
    for block in plan.blocks:
        values: list[Sequence[Any]] = []
        for name, least, most in block.bounds:
            column = columns[name]
            if not block.accepted.issuperset(map(type, column)):
                return None
            if not (least <= min(column) and max(column) <= most):
                return None
            values.append(column)
        array = np.array(values, dtype=block.dtype)  # (columns, records)
        # min and max may overlook a NaN.
        if not np.isfinite(array).all():
            return None
        blocks.append((array, block.positions))
    # Views have their own names, should a pipeline give them some.
    names, rows = plan.names.view(), _row_index(count).view()
    return create_dataframe_from_blocks(blocks, index=rows, columns=names)


@dataclass(frozen=True, slots=True)
class _Block:
    """The columns of one type."""

    dtype: type[Any]
    accepted: frozenset[type]
    """The Python types of values that need no conversion but numpy's."""
    positions: npt.NDArray[np.intp]
    bounds: tuple[tuple[str, float, float], ...]
    """Each column's name, and the least and the most that it takes here."""


@dataclass(frozen=True, slots=True)
class _Plan:
    names: pd.Index[str]
    blocks: tuple[_Block, ...]


class _SameSchema:
    """A key for a cache that compares schemas by identity: comparing their columns would take too long."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema

    def __hash__(self) -> int:
        return id(self.schema)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _SameSchema) and self.schema is other.schema


@lru_cache(maxsize=256)
def _plan_of(key: _SameSchema) -> _Plan | None:
    """How to make a frame for a schema; None if it has columns of other types."""
    columns = key.schema.columns
    accepted_types: dict[tuple[ColumnType, str], tuple[type[Any], frozenset[type]]] = {
        (ColumnType.INTEGER, "int64"): (np.int64, frozenset({int})),
        (ColumnType.NUMBER, "float64"): (np.float64, frozenset({int, float})),
    }
    types = [(column.type, column.dtype) for column in columns]
    if create_dataframe_from_blocks is None or not accepted_types.keys() >= set(types):
        return None
    blocks: list[_Block] = []
    for wanted, (dtype, accepted) in accepted_types.items():
        positions = [index for index, column_type in enumerate(types) if column_type == wanted]
        limit = EXACT_IN_FLOAT if dtype is np.int64 else sys.float_info.max
        bounds: list[tuple[str, float, float]] = []
        for index in positions:
            # Within the bounds of training there is no anomaly; they are floats themselves, rounded beyond these.
            low, high = columns[index].minimum, columns[index].maximum
            least = -limit if low is None else max(low, -limit)
            most = limit if high is None else min(high, limit)
            bounds.append((columns[index].name, least, most))
        if positions:
            blocks.append(_Block(dtype, accepted, np.array(positions), tuple(bounds)))
    return _Plan(pd.Index(key.schema.names), tuple(blocks))
