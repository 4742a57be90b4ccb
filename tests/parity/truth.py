"""What training itself answers for a row, without any of Scoreline's code; and whether another answer is the same."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

PREDICT, MODEL_OUTPUT = "E_PREDICT", "E_MODEL_OUTPUT"
TOLERANCE, SMALL_TOLERANCE, LARGEST_TOLERANCE = 1e-9, 1e-5, 1e-3


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What every way in must answer for one row."""

    value: Any = None
    """A value of Python, or a list with one for each output."""
    probabilities: list[float] = field(default_factory=list)
    """In the order of classes, and of outputs if there are several."""
    errors: frozenset[str] = frozenset()
    """The codes of which the row must have one; empty for a row that is answered."""
    or_errors: frozenset[str] = frozenset()
    """Codes of errors that will do as well as the answer."""


@dataclass(kw_only=True)
class Truth:
    """A case as its training process has left it behind."""

    name: str
    group: str
    version: int = 0
    """0: it was not published."""
    refused: str = ""
    """What publish() said of it."""
    crashed: str = ""
    """What publish() raised that is no refusal, or what went wrong before."""
    batchable: bool = True
    depends_on_company: bool = False
    """Whether training itself answers otherwise for rows alone and together."""
    is_rounding: bool = False
    """Whether they differ by no more than the precision of the columns' types."""
    classes: list[Any] | None = None
    rows: pd.DataFrame = field(default_factory=pd.DataFrame)
    expected: list[Expected] = field(default_factory=list)
    """For each row alone."""
    together: list[Expected] = field(default_factory=list)
    """For each row among all of them, where that makes a difference."""
    bad: Sequence[tuple[str, Any, str]] = ()
    """Column, value, and the code of the error; no code where the value changes nothing."""
    unneeded: bool = False
    """Whether the rows come with a column that the pipeline does not need, of anything."""
    as_stored: dict[str, str] = field(default_factory=dict)
    """The type of Arrow that columns have in a database."""
    with_empty_text: list[str] = field(default_factory=list)
    """Columns that hold empty texts in training."""
    tolerance: float = TOLERANCE
    seconds: float = 0.0


def ask(pipeline: Any, trained: pd.DataFrame, rows: pd.DataFrame, truth: Truth) -> None:
    """Write down what a pipeline answers for rows, each of them alone, and how far that is from together.

    Text for a row is no answer where it gives numbers for all of the training rows `trained`.
    """
    alone = [rows.iloc[[row]].reset_index(drop=True) for row in range(len(rows))]
    truth.rows = rows
    truth.expected = [_among(pipeline, one)[0] for one in alone]
    good = [row for row, one in enumerate(truth.expected) if not one.errors]
    company = good or list(range(len(rows)))
    together = _among(pipeline, rows.iloc[company].reset_index(drop=True))
    pairs = zip((truth.expected[row] for row in company), together, strict=True)
    apart = max((_difference(*pair) for pair in pairs), default=0.0)
    truth.depends_on_company = apart > LARGEST_TOLERANCE
    if truth.depends_on_company:
        truth.together = _among(pipeline, rows)
    else:
        # Rounding differs with the number of rows, in whatever precision the pipeline computes.
        truth.tolerance = max(TOLERANCE, 100 * apart)
        is_small = any(dtype == "float32" for dtype in rows.dtypes)
        truth.is_rounding = apart <= (SMALL_TOLERANCE if is_small else TOLERANCE)
    if not any(
        isinstance(one, str) for row in _among(pipeline, trained) for one in _flat(row.value)
    ):
        truth.expected = [
            Expected(errors=frozenset({MODEL_OUTPUT})) if isinstance(one.value, str) else one
            for one in truth.expected
        ]
    classes = getattr(pipeline, "classes_", None)
    if isinstance(classes, np.ndarray) and hasattr(pipeline, "predict_proba"):
        truth.classes = classes.tolist()


def _among(pipeline: Any, rows: pd.DataFrame) -> list[Expected]:
    try:
        return _answers(pipeline, rows)
    # Whatever the pipeline raises for these rows becomes the error of each of them.
    except Exception:  # noqa: BLE001
        return [Expected(errors=frozenset({PREDICT}))] * len(rows)


def _answers(pipeline: Any, rows: pd.DataFrame) -> list[Expected]:
    method = pipeline.predict if hasattr(pipeline, "predict") else pipeline.transform
    values = _rows_of(method(rows.copy()), len(rows))
    shares: list[Any] = [[]] * len(rows)
    if hasattr(pipeline, "predict_proba"):
        found = pipeline.predict_proba(rows.copy())
        parts = found if isinstance(found, list) else [found]
        shares = np.concatenate([np.asarray(one, float) for one in parts], axis=1).tolist()
    return [_expected(*pair) for pair in zip(values, shares, strict=True)]


def _rows_of(answer: Any, count: int) -> list[Any]:
    """An answer as a list with one item a row: a value, or a list for several outputs."""
    if hasattr(answer, "toarray"):
        answer = answer.toarray()
    if isinstance(answer, pd.DataFrame):
        columns = [list(answer.iloc[:, place]) for place in range(answer.shape[1])]
        listed: list[Any] = [list(row) for row in zip(*columns, strict=True)]
    else:
        array = answer if isinstance(answer, np.ndarray) else None
        # A list is no value of one output.
        listed = [
            list(one)
            if array is not None and array.ndim > 1
            else None
            if isinstance(one, list)
            else one
            for one in (answer if array is None else array)
        ]
    if len(listed) != count:
        return [None] * count
    listed = [one[0] if isinstance(one, list) and len(one) == 1 else one for one in listed]
    # A list is the values of several outputs where every row has one, and no value of a single output.
    is_several = all(isinstance(one, list) for one in listed)
    return listed if is_several else [None if isinstance(one, list) else one for one in listed]


def _expected(value: Any, shares: list[float]) -> Expected:
    many = value if isinstance(value, list) else [value]
    plain = [_plain(one) for one in many]
    is_odd = not plain or None in plain or not all(map(math.isfinite, shares))
    return Expected(
        value=None if is_odd else plain if isinstance(value, list) else plain[0],
        probabilities=[] if is_odd else shares,
        errors=frozenset({MODEL_OUTPUT}) if is_odd else frozenset(),
    )


def _plain(value: Any) -> Any:
    """A value as Python has it, or None for what cannot be an answer."""
    if isinstance(value, np.generic) and not isinstance(value, np.datetime64 | np.timedelta64):
        value = value.item()
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value if value.isprintable() or _is_encodable(value) else None
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else None
    return value if isinstance(value, float) and math.isfinite(value) else None


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# The same answer


@dataclass(frozen=True, kw_only=True)
class Got:
    """What one way in has answered for one row."""

    value: Any = None
    probabilities: Any = None
    """A mapping by class, or a list; nested where there are several outputs."""
    error: str | None = None
    """The code."""
    is_text: bool = False
    """The format has nothing but text: a number stands for itself."""


def difference(expected: Expected, got: Got, truth: Truth) -> str | None:
    """What is wrong with an answer, or None."""
    if got.error is not None or expected.errors:
        if got.error in expected.errors | expected.or_errors:
            return None
        wanted = "/".join(sorted(expected.errors)) or repr(expected.value)
        return f"wanted {wanted}, got {got.error or repr(got.value)}"
    want, have = _flat(expected.value), _flat(got.value)
    alike = len(want) == len(have) and all(
        _same(one, other, truth.tolerance, got.is_text)
        for one, other in zip(want, have, strict=True)
    )
    if not alike:
        return f"wanted {expected.value!r}, got {got.value!r}"
    shares = [float(one) for one in _flat(got.probabilities)]
    if len(shares) != len(expected.probabilities) or not all(
        math.isclose(one, other, rel_tol=truth.tolerance, abs_tol=truth.tolerance)
        for one, other in zip(expected.probabilities, shares, strict=True)
    ):
        return f"wanted probabilities {expected.probabilities}, got {got.probabilities!r}"
    if isinstance(got.probabilities, Mapping) and truth.classes is not None:
        keys = list(got.probabilities)
        if [(type(key), key) for key in keys] != [(type(key), key) for key in truth.classes]:
            return f"wanted probabilities of {truth.classes}, got those of {keys}"
    return None


def _flat(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [part for one in value for part in _flat(one)]
    return [] if value is None else [value]


def _same(want: Any, got: Any, tolerance: float, is_text: bool) -> bool:
    if is_text and not isinstance(want, str):
        if isinstance(want, float):
            try:
                got = float(got)
            except (TypeError, ValueError):
                return False
        else:
            return bool(got == (str(want).lower() if isinstance(want, bool) else str(want)))
    if type(want) is not type(got):
        return False
    if isinstance(want, float):
        return math.isclose(want, got, rel_tol=tolerance, abs_tol=tolerance)
    return bool(want == got)


def _difference(one: Expected, other: Expected) -> float:
    """How far two answers are from each other, relatively; infinite if they are not of the same kind."""
    if one.errors or other.errors:
        return 0.0 if one.errors == other.errors else math.inf
    pairs = list(zip(_flat(one.value), _flat(other.value), strict=False))
    pairs += zip(one.probabilities, other.probabilities, strict=False)
    apart = 0.0
    for left, right in pairs:
        if isinstance(left, float) and isinstance(right, float):
            apart = max(apart, abs(left - right) / max(1.0, abs(left)))
        elif left != right:
            return math.inf
    return apart
