"""Raw records to the frame that the pipeline was trained on, with one problem per bad record.

The rules are Scoreline's own and the same wherever records come from: nothing is guessed, and
nothing is converted that would change a value. The common case, all well, is columns at a time; only
a column in which something is odd is looked at value by value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from scoreline_artifacts.schema import Column, Schema
from scoreline_artifacts.validation.anomalies import find_unusual
from scoreline_artifacts.validation.arrays import at_once
from scoreline_artifacts.validation.plain import frame_of_plain
from scoreline_artifacts.validation.problems import (
    NO_RULES,
    Checked,
    Problem,
    Rules,
    Unreadable,
    shown,
)
from scoreline_artifacts.validation.values import kind_of, one_by_one

Values = Sequence[Any] | npt.NDArray[Any]
Reading = Callable[[Column, Values], Values]
"""What is done to the values of a column before they are held to it."""


def frame_of_records(
    records: Sequence[object],
    schema: Schema | None,
    *,
    rules: Rules = NO_RULES,
    reading: Reading | None = None,
) -> Checked:
    """Check records against a schema and build the pipeline's frame from the good ones.

    Without a schema, any mappings are taken as they are.
    """
    if schema is None:
        return _without_schema(records)
    try:
        # A mapping is a dict wherever records were decoded; anything else goes the careful way.
        columns: dict[str, Sequence[Any]] = {
            column.name: [record[column.name] for record in records]  # type: ignore[index]
            for column in schema.columns
        }
    except (KeyError, TypeError, IndexError):
        return _record_by_record(records, schema, rules, reading)
    if set(map(type, records)) - {dict}:
        return _record_by_record(records, schema, rules, reading)
    plain = frame_of_plain(columns, len(records), schema) if reading is None else None
    if plain is not None:
        return Checked(plain, None, [], [])
    return frame_of_columns(columns, len(records), schema, rules=rules, reading=reading)


def frame_of_columns(
    columns: Mapping[str, Values],
    count: int,
    schema: Schema,
    *,
    rules: Rules = NO_RULES,
    reading: Reading | None = None,
) -> Checked:
    """The same for values that come by column; a column that is not there fails every record."""
    arrays: dict[str, Any] = {}
    problems: dict[int, Problem] = {}
    for column in schema.columns:
        if column.name not in columns:
            return _without_column(column.name, columns, count, schema)
        values = columns[column.name]
        if reading is not None:
            values = reading(column, values)
        array = at_once(column, values)
        if array is None:
            array = one_by_one(column, values, problems)
        arrays[column.name] = array
    return frame_of_arrays(arrays, count, schema, problems, rules)


def frame_of_arrays(
    arrays: Mapping[str, Any],
    count: int,
    schema: Schema,
    problems: dict[int, Problem],
    rules: Rules,
) -> Checked:
    """The same for arrays that are converted already; what they hold where there is a problem has no
    meaning. Where `rules` refuse what training did not have, those records have a problem too."""
    findings = find_unusual(schema, arrays, rules, problems)
    if not problems:
        return Checked(_frame(arrays), None, [], findings)
    is_good = np.ones(count, dtype=bool)
    is_good[list(problems)] = False
    good = np.flatnonzero(is_good)
    kept = {name: _take(array, good) for name, array in arrays.items()}
    frame = pd.DataFrame(kept, index=range(len(good)))
    return Checked(frame, good, [problems[row] for row in sorted(problems)], findings)


def _frame(arrays: Mapping[str, Any]) -> pd.DataFrame:
    """A frame of these columns.

    Every batch has one, so it is made with what frames of the same columns share: pandas need not make
    an index of the names again, nor hash them when the pipeline asks for some of them.
    """
    frame = pd.DataFrame(dict(enumerate(arrays.values())), copy=False)
    # A view has its own name, should a pipeline give it one.
    frame.columns = _index_of(tuple(arrays)).view()
    return frame


@lru_cache(maxsize=256)
def _index_of(names: tuple[str, ...]) -> pd.Index[str]:
    return pd.Index(names)


def renumbered(
    checked: Checked, places: Sequence[int] | npt.NDArray[np.intp], problems: Sequence[Problem]
) -> Checked:
    """What was checked of some records, as a part of what is said of all; `problems` are the others'."""
    where = np.asarray(places, dtype=np.intp)
    moved = [replace(one, record=int(where[one.record])) for one in checked.problems]
    findings = [replace(one, records=where[one.records]) for one in checked.findings]
    ordered = sorted([*problems, *moved], key=lambda one: one.record)
    return Checked(checked.frame, where[checked.places], ordered, findings)


def _without_column(
    name: str, columns: Mapping[str, object], count: int, schema: Schema
) -> Checked:
    message = missing_column(name, list(columns))
    problems = [Problem(row, "E_MISSING_COLUMN", message, name) for row in range(count)]
    nothing: dict[str, list[Any]] = {column: [] for column in schema.names}
    frame = frame_of_columns(nothing, 0, schema).frame
    return Checked(frame, np.array([], dtype=np.intp) if problems else None, problems)


def _take(array: Any, good: npt.NDArray[np.intp]) -> Any:
    kept = array.take(good)
    return kept.reset_index(drop=True) if isinstance(kept, pd.Series) else kept


def _without_schema(records: Sequence[object]) -> Checked:
    problems = [
        _no_record(place, record)
        for place, record in enumerate(records)
        if not isinstance(record, Mapping)
    ]
    good = [place for place, record in enumerate(records) if isinstance(record, Mapping)]
    frame = pd.DataFrame([records[place] for place in good])
    return Checked(frame, np.array(good, dtype=np.intp) if problems else None, problems)


def _no_record(place: int, record: object) -> Problem:
    if isinstance(record, Unreadable):
        return Problem(place, record.code, record.message)
    message = f"the record is {kind_of(record)}; expected an object with a value for each column"
    return Problem(place, "E_TYPE", message, None, shown(record))


def _record_by_record(
    records: Sequence[object], schema: Schema, rules: Rules, reading: Reading | None
) -> Checked:
    """Sort out records that lack a column or are none, and check the rest by column."""
    problems: list[Problem] = []
    good: list[int] = []
    for place, record in enumerate(records):
        if not isinstance(record, Mapping):
            problems.append(_no_record(place, record))
            continue
        missing = next((name for name in schema.names if name not in record), None)
        if missing is None:
            good.append(place)
        else:
            unknown = [key for key in record if isinstance(key, str) and key not in schema.names]
            message = missing_column(missing, unknown)
            problems.append(Problem(place, "E_MISSING_COLUMN", message, missing))
    columns = {name: [records[place][name] for place in good] for name in schema.names}  # type: ignore[index]
    checked = frame_of_columns(columns, len(good), schema, rules=rules, reading=reading)
    return renumbered(checked, good, problems)


def missing_column(name: str, found: Sequence[str]) -> str:
    """The message for a column that is not there; `found` may hold what was meant by it."""
    near = get_close_matches(name, [one.strip() for one in found], n=1, cutoff=0.7)
    near = near or [one for one in found if one.strip().casefold() == name.casefold()]
    hint = f"; did you mean it by {near[0]!r}?" if near else ""
    return f"column {name!r} is missing{hint}"
