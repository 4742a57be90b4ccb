"""Values that a column takes although training did not have them: worth a warning, or an error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from scoreline_artifacts.schema import Column, ColumnType, Schema
from scoreline_artifacts.validation.problems import Finding, Problem, Rules, shown

UNSEEN = "W_UNSEEN_CATEGORY"
OUT_OF_RANGE = "W_OUT_OF_RANGE"
_ERRORS = {UNSEEN: "E_CATEGORY", OUT_OF_RANGE: "E_OUT_OF_RANGE"}
_NUMBERS = (ColumnType.INTEGER, ColumnType.NUMBER)


def find_unusual(
    schema: Schema, arrays: Mapping[str, Any], rules: Rules, problems: dict[int, Problem]
) -> list[Finding]:
    """What is unusual about records without a problem; what `rules` refuse becomes a problem."""
    policies = {UNSEEN: rules.unseen, OUT_OF_RANGE: rules.out_of_range}
    if set(policies.values()) == {"ignore"}:
        return []
    found: list[tuple[str, Column, npt.NDArray[np.intp]]] = []
    for column in schema.columns:
        for code, unusual in _unusual(column, arrays[column.name], policies):
            if policies[code] == "error":
                _refuse(code, column, arrays[column.name], unusual, problems)
            elif len(unusual):
                found.append((code, column, unusual))
    bad = np.fromiter(problems, dtype=np.intp, count=len(problems))
    kept = ((code, column, np.setdiff1d(places, bad)) for code, column, places in found)
    return [Finding(code, column.name, places) for code, column, places in kept if len(places)]


def describe_unusual(code: str, column: Column, value: object) -> str:
    """The message for a value."""
    if code == UNSEEN:
        near = nearest_category(column, str(value))
        hint = f"; the nearest is {near!r}" if near is not None else ""
        return f"column {column.name!r}: {shown(value)} was not there in training{hint}"
    low, high = _plain(column.minimum), _plain(column.maximum)
    return f"column {column.name!r}: {shown(value)} is outside of {low} to {high}, the range of training"


def nearest_category(column: Column, text: str) -> str | None:
    """The known value that was probably meant: alike but for case and blanks, or close to it."""
    return _nearest(tuple(map(str, column.categories or ())), text[:100])


@lru_cache(maxsize=4096)
def _nearest(names: tuple[str, ...], text: str) -> str | None:
    plain = {one.strip().casefold(): one for one in names}
    wanted = text.strip().casefold()
    if wanted in plain:
        return plain[wanted]
    near = get_close_matches(wanted, plain, n=1, cutoff=0.6)
    return plain[near[0]] if near else None


def value_at(array: Any, place: int) -> Any:
    """One value of a converted array, as Python has it."""
    value = array.iloc[place] if isinstance(array, pd.Series) else array[place]
    return value.item() if isinstance(value, np.generic) else value


def _unusual(
    column: Column, array: Any, policies: Mapping[str, str]
) -> Iterator[tuple[str, npt.NDArray[np.intp]]]:
    if policies[OUT_OF_RANGE] != "ignore" and column.type in _NUMBERS:
        yield OUT_OF_RANGE, np.flatnonzero(is_out_of_range(column, array))
    if policies[UNSEEN] != "ignore" and column.type is ColumnType.STRING:
        yield UNSEEN, np.flatnonzero(is_unseen(column, array))


def is_out_of_range(column: Column, array: Any) -> npt.NDArray[np.bool_]:
    """Which numbers are below the smallest or above the largest of training; a missing one is not."""
    if column.minimum is None or column.maximum is None:
        return np.zeros(len(array), dtype=bool)
    numbers = (
        array
        if isinstance(array, np.ndarray)
        else pd.Series(array).to_numpy(dtype=np.float64, na_value=np.nan)
    )
    # Bounds are kept as floats: those of narrow floats are compared as such.
    low, high = column.minimum, column.maximum
    return np.asarray((numbers < low) | (numbers > high))


def is_unseen(column: Column, array: Any) -> npt.NDArray[np.bool_]:
    """Which texts training did not have, where the schema lists those that it had."""
    if column.categories is None:
        return np.zeros(len(array), dtype=bool)
    texts = pd.Series(array)
    return ~np.asarray(texts.isin(list(column.categories)) | texts.isna())


def _refuse(
    code: str,
    column: Column,
    array: Any,
    places: npt.NDArray[np.intp],
    problems: dict[int, Problem],
) -> None:
    for place in places.tolist():
        value = value_at(array, place)
        message = describe_unusual(code, column, value)
        problem = Problem(place, _ERRORS[code], message, column.name, shown(value))
        problems.setdefault(place, problem)


def _plain(bound: float | None) -> str:
    return f"{bound:g}" if bound is not None and abs(bound) < 1e6 else str(bound)
