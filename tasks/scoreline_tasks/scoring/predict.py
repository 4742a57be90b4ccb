"""Scores a frame with a loaded version: one vectorised call, and a bad row costs only itself.

Pure: a frame and a version in, scores and errors out. Nothing here knows of queues or codecs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from scoreline_artifacts.loading.version import LoadedVersion, Scores
from scoreline_artifacts.validation import CheckedRecords, Problem
from scoreline_client.codes import Code

if TYPE_CHECKING:
    import pandas as pd


@dataclass(slots=True)
class CodecResult:
    """A codec's share of the answer to one request; the fields are those of `Answer`."""

    records: int
    """Records in the body, good and bad."""
    classes: list[Any] | None
    values: list[Any] = field(default_factory=list)
    probabilities: list[list[float] | None] | None = None
    errors: dict[str, dict[str, Any]] = field(default_factory=dict)
    warnings: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    problems: list[dict[str, Any]] = field(default_factory=list)
    warned: list[dict[str, Any]] = field(default_factory=list)
    report: dict[str, Any] | None = None
    body: bytes | memoryview = b""


class Body(Protocol):
    """The decoded records of one request, or of several that share a call of the pipeline."""

    @property
    def checked(self) -> CheckedRecords:
        """The records held to the schema: a frame of the good ones, and what is wrong with the others."""

    def results(self, scores: Scores, errors: dict[int, Problem]) -> Sequence[CodecResult]:
        """One result for each request, in order; `errors` are those of the frame's rows."""


def score_frame(
    loaded: LoadedVersion, frame: pd.DataFrame, first: int = 0, *, each_row_alone: bool = False
) -> tuple[Scores, dict[int, Problem]]:
    """Score every row of a frame that has the columns and types of training.

    One call of the pipeline when all is well. When it raises, the rows are halved until those that
    make it raise are isolated (2·log2(rows) calls for one bad row); their neighbours are answered. The
    rows of a version that is not batchable depend on each other, so all of them share the error; with
    `each_row_alone` they are scored in a call each.

    Returns the scores, whose values mean nothing at rows with an error, and the errors by row, counted
    from `first`.
    """
    count = len(frame)
    if count == 0:
        return Scores(np.array([], dtype=object), None), {}
    if each_row_alone:
        parts = [score_frame(loaded, frame.iloc[row : row + 1], row) for row in range(count)]
        for row, (scores, errors) in enumerate(parts):
            # As an object: such a version may answer with another number of columns for each row.
            value = np.empty(1, dtype=object)
            value[0] = scores.values.tolist()[0]
            parts[row] = Scores(value, scores.probabilities), errors
        return _joined(parts)
    try:
        scores = loaded.score(frame)
    # Whatever a pipeline raises is about these rows: it becomes the error of the row that causes it.
    except Exception as error:  # noqa: BLE001
        if count > 1 and loaded.batchable:
            middle = count // 2
            upper, lower = frame.iloc[:middle], frame.iloc[middle:]
            return _joined(
                [score_frame(loaded, upper, first), score_frame(loaded, lower, first + middle)]
            )
        code = str(getattr(error, "code", Code.PREDICT))
        message = f"the pipeline raised {type(error).__name__} for this record: {error}"[:500]
        failed = range(first, first + count)
        nothing = Scores(np.full(count, None, dtype=object), None)
        return nothing, {row: Problem(row, code, message) for row in failed}
    # NaN and infinity are not answers: a row that got one has an error instead.
    bad: set[int] = set()
    for array in (scores.values, scores.probabilities):
        finite = None if array is None else _finite(array)
        if finite is not None and not finite.all():
            bad.update(np.nonzero(~finite)[0].tolist())
    code = Code.MODEL_OUTPUT.value
    message = "the pipeline answered with NaN or infinity for this record"
    return scores, {first + row: Problem(first + row, code, message) for row in sorted(bad)}


def _finite(array: npt.NDArray[Any]) -> npt.NDArray[np.bool_] | None:
    """Where values are neither NaN nor infinite; None if no value of this type could be."""
    if array.dtype.kind == "f":
        return np.asarray(np.isfinite(array))
    if array.dtype != object:
        return None
    values = array.ravel().tolist()
    if not any(issubclass(kind, (float, np.floating)) for kind in set(map(type, values))):
        return None
    finite = [not isinstance(one, (float, np.floating)) or np.isfinite(one) for one in values]
    return np.array(finite, dtype=bool).reshape(array.shape)


def _joined(parts: list[tuple[Scores, dict[int, Problem]]]) -> tuple[Scores, dict[int, Problem]]:
    """Put the parts of a frame together.

    Rows of parts that failed get the shape and type of those that did not, so that types survive.
    """
    failed = [
        len(errors) == len(scores.values) and scores.probabilities is None
        for scores, errors in parts
    ]
    pattern = parts[failed.index(False) if False in failed else 0][0]

    def joined(name: str) -> Any:
        like = getattr(pattern, name)
        return np.concatenate(
            [
                np.zeros((len(scores.values), *like.shape[1:]), dtype=like.dtype)
                if has_failed
                else getattr(scores, name)
                for (scores, _), has_failed in zip(parts, failed, strict=True)
            ]
        )

    probabilities = None if pattern.probabilities is None else joined("probabilities")
    errors = {row: problem for _, part in parts for row, problem in part.items()}
    return Scores(joined("values"), probabilities), errors
