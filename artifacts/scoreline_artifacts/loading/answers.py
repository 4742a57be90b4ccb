"""What a pipeline returned, as rows of one type each, and which of them are no answers.

A value is text, true or false, or a finite number; whatever else a pipeline returns for a record costs that
record its answer and no other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from scoreline_artifacts.errors import ModelOutputError
from scoreline_artifacts.manifest import OutputType
from scoreline_artifacts.validation import shown

Array = npt.NDArray[Any]

_TYPES = {
    "f": OutputType.NUMBER,
    "i": OutputType.NUMBER,
    "u": OutputType.NUMBER,
    "b": OutputType.BOOLEAN,
    "U": OutputType.TEXT,
}
"""What an array holds, by the kind of its dtype."""
_WORDS = {
    OutputType.NUMBER: "a number",
    OutputType.BOOLEAN: "true or false",
    OutputType.TEXT: "text",
}
_NOT_FINITE = "the pipeline answered with NaN or infinity for this record"


def value_rows(answer: Any, count: int, method: str) -> Array:
    """What `predict` or `transform` returned for `count` rows: (rows,) or (rows, outputs).

    Raises:
        ModelOutputError: it has not one row, of one or more values, for each row.
    """
    if hasattr(answer, "toarray"):
        answer = answer.toarray()
    if isinstance(answer, pd.DataFrame) and len(set(answer.dtypes)) > 1:
        # numpy has one type for all columns: whole numbers would become fractions beside fractions.
        answer = answer.astype(object)
    # From a list, numpy would make text of numbers that stand beside text.
    is_listed = isinstance(answer, list | tuple)
    array = np.array(answer, dtype=object) if is_listed else np.asarray(answer)
    if array.ndim not in (1, 2) or len(array) != count or array.shape[1:] == (0,):
        raise ModelOutputError(
            f"{method} gave an answer of shape {array.shape} for {count} rows; expected a value, or "
            "as many values, for each row"
        )
    if array.dtype.kind == "f":
        array = array.astype(np.float64, copy=False)  # float32 has the same digits everywhere
    elif not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def probability_rows(answer: Any, count: int) -> Array:
    """What `predict_proba` returned for `count` rows: (rows, probabilities), those of several outputs in
    order.

    Raises:
        ModelOutputError: it has not as many numbers for each row.
    """
    arrays = []
    for part in answer if is_by_output(answer) else [answer]:
        array = np.asarray(part.toarray() if hasattr(part, "toarray") else part)
        if array.dtype == object:
            # What is no number is no probability: it becomes NaN, and costs its record the answer.
            is_number = np.frompyfunc(lambda one: isinstance(one, float | int | np.number), 1, 1)
            array = np.where(is_number(array), array, np.nan).astype(np.float64)
        if array.ndim != 2 or len(array) != count or array.dtype.kind not in "fiub":
            raise ModelOutputError(
                f"predict_proba gave {array.dtype} of shape {array.shape} for {count} rows; expected "
                "a number for each row and class"
            )
        arrays.append(array if array.dtype.kind == "f" else array.astype(np.float64))
    return arrays[0] if len(arrays) == 1 else np.hstack(arrays)


def is_by_output(answer: Any) -> bool:
    """Whether `predict_proba` returned a table for each of several outputs, and not one table."""
    return isinstance(answer, list | tuple) and all(np.ndim(part) == 2 for part in answer)


def usable_values(
    values: Array, types: Sequence[OutputType | None]
) -> tuple[Array, dict[int, str]]:
    """The values that are answers, as numbers, booleans and text of Python's or numpy's own, and by row why
    others are not.

    `types` are those of the outputs, as far as they are known: a value of another type is no answer.
    Values of rows that are none mean nothing.
    """
    kind = values.dtype.kind
    if kind in "fiub" and {*types} <= {None, _TYPES[kind]}:
        if kind != "f" or (finite := np.isfinite(values)).all():
            return values, {}
        rows = np.flatnonzero(~finite if values.ndim == 1 else ~finite.all(axis=1))
        return values, dict.fromkeys(rows.tolist(), _NOT_FINITE)
    if values.ndim == 1:
        return _usable_column(values, types[0] if types else None)
    columns: list[Array] = []
    unusable: dict[int, str] = {}
    for index, column in enumerate(values.T):
        usable, reasons = _usable_column(column, types[index] if types else None)
        columns.append(usable.astype(object))
        unusable |= reasons
    return np.column_stack(columns), unusable


def unusable_probabilities(probabilities: Array) -> dict[int, str]:
    """By row, why probabilities are none."""
    finite = np.isfinite(probabilities)
    if finite.all():
        return {}
    return dict.fromkeys(np.flatnonzero(~finite.all(axis=1)).tolist(), _NOT_FINITE)


def _usable_column(column: Array, expected: OutputType | None) -> tuple[Array, dict[int, str]]:
    values = column.tolist()
    is_text = set(map(type, values)) == {str} and expected in (None, OutputType.TEXT)
    if is_text and _is_unicode("".join(values)):
        return column, {}
    plain = np.empty(len(values), dtype=object)
    types: list[OutputType | None] = []
    unusable: dict[int, str] = {}
    for row, value in enumerate(values):
        plain[row], found = _plain(value)
        types.append(found)
        if found is None:
            unusable[row] = plain[row]
    # Where nothing is known of training, numbers come first: text among them is no answer.
    expected = expected or next((one for one in _WORDS if one in types), None)
    for row, found in enumerate(types):
        if found is not None and expected is not None and found is not expected:
            unusable[row] = (
                f"the pipeline answered {shown(plain[row])} for this record, {_WORDS[found]}; its "
                f"other answers are {_WORDS[expected]}"
            )
    plain[list(unusable)] = None
    return plain, unusable


def _plain(value: Any) -> tuple[Any, OutputType | None]:
    """A value as Python's own, and its type; or why it is no answer, and None."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        return value, OutputType.BOOLEAN
    if isinstance(value, int) and -1 << 63 <= value < 1 << 63:
        return int(value), OutputType.NUMBER
    if isinstance(value, float | np.floating) and math.isfinite(value):
        return float(value), OutputType.NUMBER
    if isinstance(value, str) and _is_unicode(value):
        return str.__str__(value), OutputType.TEXT
    if isinstance(value, float | np.floating):
        return _NOT_FINITE, None
    if value is None or value is pd.NA or value is pd.NaT:
        return f"the pipeline answered with no value ({value}) for this record", None
    what = type(value).__name__
    if isinstance(value, int):
        what = "a whole number beyond 64 bits"
    elif isinstance(value, str):
        what = "text that is not Unicode"
    return (
        f"the pipeline answered {shown(value)} for this record, {what}; an answer is text, true or "
        "false, or a finite number of at most 64 bits",
        None,
    )


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
