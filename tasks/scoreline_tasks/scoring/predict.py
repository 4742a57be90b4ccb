"""Scores a frame with a loaded version: one vectorised call, and a bad row costs only itself.

A pure function: a frame and a version in, predictions and errors out. It knows nothing of queues.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from scoreline_artifacts.loading.version import LoadedVersion, Scores
from scoreline_artifacts.validation import Problem
from scoreline_client.codes import Code

if TYPE_CHECKING:
    import pandas as pd


class RequestProblem(Exception):
    """Raised when a request as a whole cannot be scored; it becomes the answer's error."""

    def __init__(self, code: Code | str, message: str, column: str | None = None) -> None:
        super().__init__(message)
        self.code = str(code)
        self.message = message
        self.column = column


@dataclass(frozen=True, slots=True)
class CodecResult:
    """What a codec makes of one request body."""

    records: int
    """Records in the body, good and bad."""
    rejected: dict[str, int]
    """How many of them were rejected, by code."""
    body: bytes | memoryview = b""
    """The answer's body in the same codec."""
    problems: list[dict[str, Any]] = field(default_factory=list)
    """The particulars of the first of them, as many as were asked for."""
    warned: list[dict[str, Any]] = field(default_factory=list)
    """What was unusual about the others, by code and column."""
    report: dict[str, Any] | None = None
    """For operation check."""


@dataclass(slots=True)
class Scored:
    """Answers for the rows of one frame, in order."""

    values: npt.NDArray[Any]
    """(rows,) or (rows, outputs); what stands at a row with an error has no meaning."""
    probabilities: npt.NDArray[np.float64] | None
    """(rows, classes), or None; what stands at a row with an error has no meaning."""
    errors: dict[int, Problem] = field(default_factory=dict)
    """By row, from 0."""


def score_frame(loaded: LoadedVersion, frame: pd.DataFrame) -> Scored:
    """Score every row of a frame that has the columns and types of training.

    One call of the pipeline when all is well. When it raises, the rows are halved until those that
    make it raise are found (2·log2(rows) calls for one bad row); their neighbours are answered. The
    rows of a version that is not batchable depend on each other, so all of them share the error.
    """
    if len(frame) == 0:
        return Scored(np.array([], dtype=object), None)
    return _score_part(loaded, frame, 0)


def _score_part(loaded: LoadedVersion, frame: pd.DataFrame, first: int) -> Scored:
    try:
        outputs = loaded.score(frame)
    # Whatever a pipeline raises is about these rows: it becomes the error of the one that it is about.
    except Exception as error:  # noqa: BLE001
        if len(frame) == 1 or not loaded.batchable:
            return _failed(error, first, len(frame))
        middle = len(frame) // 2
        return _join(
            [
                _score_part(loaded, frame.iloc[:middle], first),
                _score_part(loaded, frame.iloc[middle:], first + middle),
            ]
        )
    return Scored(outputs.values, outputs.probabilities, _unusable(outputs, first))


def _failed(error: Exception, first: int, count: int) -> Scored:
    code = getattr(error, "code", Code.PREDICT)
    message = f"the pipeline raised {type(error).__name__} for this record: {error}"[:500]
    rows = range(first, first + count)
    errors = {row: Problem(row, str(code), message, None, None) for row in rows}
    return Scored(np.full(count, None, dtype=object), None, errors)


def _unusable(outputs: Scores, first: int) -> dict[int, Problem]:
    """NaN and infinity are no answers; a row that got one has an error instead."""
    bad: set[int] = set()
    for array in (outputs.values, outputs.probabilities):
        finite = None if array is None else _finite(array)
        if finite is not None and not finite.all():
            bad.update(np.nonzero(~finite)[0].tolist())
    message = "the pipeline answered with NaN or infinity for this record"
    return {
        first + row: Problem(first + row, Code.MODEL_OUTPUT.value, message, None, None)
        for row in sorted(bad)
    }


def _finite(array: npt.NDArray[Any]) -> npt.NDArray[np.bool_] | None:
    """What is neither NaN nor infinite; None if nothing in it could be."""
    if array.dtype.kind == "f":
        return np.asarray(np.isfinite(array))
    if array.dtype != object:
        return None
    values = array.ravel().tolist()
    if not any(issubclass(kind, (float, np.floating)) for kind in set(map(type, values))):
        return None
    finite = [not isinstance(one, (float, np.floating)) or np.isfinite(one) for one in values]
    return np.array(finite, dtype=bool).reshape(array.shape)


def _join(parts: list[Scored]) -> Scored:
    """Put parts of a frame together; rows without an answer are filled to fit those with one."""
    errors = {row: problem for part in parts for row, problem in part.errors.items()}
    answered = next((part for part in parts if not _failed_whole(part)), parts[0])
    values = [_fill(part.values, answered.values, part) for part in parts]
    probabilities = answered.probabilities
    if probabilities is not None:
        probabilities = np.concatenate(
            [_fill(part.probabilities, answered.probabilities, part) for part in parts]
        )
    return Scored(np.concatenate(values), probabilities, errors)


def _failed_whole(part: Scored) -> bool:
    return len(part.errors) == len(part.values) and part.probabilities is None


def _fill(array: Any, pattern: Any, part: Scored) -> npt.NDArray[Any]:
    """Rows that failed get the shape and type of those that did not, so that types survive."""
    if array is not None and not _failed_whole(part):
        return np.asarray(array)
    return np.zeros((len(part.values), *pattern.shape[1:]), dtype=pattern.dtype)


def count_codes(problems: Iterable[Problem]) -> dict[str, int]:
    """How many problems there are of each code."""
    return dict(Counter(problem.code for problem in problems))
