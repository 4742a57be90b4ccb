"""Scores a frame in one vectorised call, and makes the columns, errors and warnings of its answer.

Pure: a frame and a version in, scores and errors out. A bad row costs only itself. Nothing here knows of
queues or codecs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scoreline_artifacts.loading.version import LoadedVersion, Scores
from scoreline_artifacts.schema import Column
from scoreline_artifacts.validation import (
    NO_RULES,
    Anomaly,
    CheckedRecords,
    CheckedRows,
    Problem,
    Rules,
    describe_anomaly,
    shown,
)
from scoreline_artifacts.validation.rows import whole
from scoreline_client.codes import Code, WarningCode
from scoreline_client.errors import RequestRefused
from scoreline_client.options import NO_OPTIONS, RequestOptions
from scoreline_client.protocol.names import probability_column
from scoreline_client.protocol.totals import Faults
from scoreline_tasks.scoring.answer_size import error_texts, full_bytes
from scoreline_tasks.scoring.bad_rows import BadRowSearch
from scoreline_tasks.scoring.limits import Limits

if TYPE_CHECKING:
    import pandas as pd


EXAMPLES = 5
"""Different values that a warning about a column gives as examples."""
_SEPARATOR = "; "

Position = Callable[[int], dict[str, int]]
"""The row and, in text, the line of a record, by its index."""


@dataclass(slots=True)
class CodecResult:
    """A codec's share of the answer to one request; the fields are those of `Answer`."""

    records: int
    """Records in the body, good and bad."""
    classes: list[Any] | None
    outputs: list[dict[str, Any]] | None = None
    values: list[Any] = field(default_factory=list)
    probabilities: list[list[float] | None] | None = None
    errors: dict[str, dict[str, Any]] = field(default_factory=dict)
    warnings: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    more_errors: list[dict[str, Any]] = field(default_factory=list)
    rejected: dict[str, int] = field(default_factory=dict)
    faults: Faults | None = None
    """Rejected records by code and column, where `errors` does not have them all; no field of `Answer`."""
    problems: list[dict[str, Any]] = field(default_factory=list)
    warned: list[dict[str, Any]] = field(default_factory=list)
    report: dict[str, Any] | None = None
    body: bytes | memoryview = b""


class Body(Protocol):
    """The decoded records of one request, or of several that share a call of the pipeline."""

    @property
    def checked(self) -> CheckedRecords:
        """The records held to the schema: a frame of the good ones, and what is wrong with the others."""

    def extract(self, record: int) -> bytes:
        """The body of a request that has nothing but this record, where all are one request's."""

    def results(self, scores: Scores, errors: dict[int, Problem]) -> Sequence[CodecResult]:
        """One result for each request, in order; `errors` are those of the frame's rows."""


def score_frame(
    loaded: LoadedVersion,
    frame: pd.DataFrame | CheckedRows,
    *,
    each_row_alone: bool = False,
    pause: Callable[[], None] = lambda: None,
) -> tuple[Scores, dict[int, Problem]]:
    """Score every one of some rows that have the columns and types of training.

    One call of the pipeline when all is well. When it raises, the rows that make it raise are looked for (see
    `bad_rows`), and their neighbours are answered; `pause` is called between two calls. The rows of a version that is
    not batchable depend on each other, so all of them share the error; with `each_row_alone` they are
    scored in a call each.

    Returns the scores, whose values mean nothing at rows with an error, and the errors by row.

    Raises:
        TooManyBadRows: so many rows raise that the others were not looked for.
    """
    rows = CheckedRows.of(frame)
    count = len(rows)
    if count == 0:
        return Scores(np.array([], dtype=object), None), {}
    if each_row_alone:
        parts = []
        for row in range(count):
            alone = rows.frame.iloc[row : row + 1].reset_index(drop=True)
            scores, errors = score_frame(loaded, alone)
            # As an object: such a version may answer with another number of columns for each row.
            value = np.empty(1, dtype=object)
            value[0] = scores.values.tolist()[0]
            parts.append((Scores(value, scores.probabilities), shifted(errors, row)))
        return joined(parts)
    try:
        return _checked(np.arange(count), loaded.score(rows))
    # Whatever a pipeline raises is about these rows: it becomes the error of the row that causes it.
    except Exception as error:  # noqa: BLE001
        if count == 1 or not loaded.batchable:
            return _failed(np.arange(count), error)
    search = BadRowSearch(loaded.score, rows.frame, pause)
    outcomes = search.run()
    scores, errors = joined(
        [
            _failed(part, outcome) if isinstance(outcome, Exception) else _checked(part, outcome)
            for part, outcome in outcomes
        ]
    )
    order = np.argsort(np.concatenate([part for part, _ in outcomes]))
    probabilities = None if scores.probabilities is None else scores.probabilities[order]
    return Scores(scores.values[order], probabilities), errors


def _failed(rows: npt.NDArray[np.intp], error: Exception) -> tuple[Scores, dict[int, Problem]]:
    """Rows for which the pipeline raised."""
    code = str(getattr(error, "code", Code.PREDICT))
    message = f"the pipeline raised {type(error).__name__} for this record: {error}"[:500]
    nothing = Scores(np.full(len(rows), None, dtype=object), None)
    return nothing, {row: Problem(row, code, message) for row in rows.tolist()}


def _checked(rows: npt.NDArray[np.intp], scores: Scores) -> tuple[Scores, dict[int, Problem]]:
    """Rows that were scored: what cannot be sent is no answer, a row that got it has an error instead."""
    indices = rows.tolist()
    return scores, {
        indices[row]: Problem(indices[row], Code.MODEL_OUTPUT.value, reason)
        for row, reason in sorted(scores.unusable.items())
    }


def joined(parts: list[tuple[Scores, dict[int, Problem]]]) -> tuple[Scores, dict[int, Problem]]:
    """Put the parts of a frame together.

    Rows of parts that failed get the shape and type of those that did not, so that types survive.
    """
    failed = [
        len(errors) == len(scores.values) and scores.probabilities is None
        for scores, errors in parts
    ]
    scored = parts[failed.index(False) if False in failed else 0][0]

    def one_array(name: str) -> Any:
        sample = getattr(scored, name)
        arrays = [
            np.full(
                (len(scores.values), *sample.shape[1:]),
                None if sample.dtype == object else 0,
                dtype=sample.dtype,
            )
            if has_failed
            else getattr(scores, name)
            for (scores, _), has_failed in zip(parts, failed, strict=True)
        ]
        if len({array.dtype.kind for array in arrays}) > 1:
            # numpy would make text of numbers, and fractions of whole numbers.
            arrays = [array.astype(object) for array in arrays]
        return np.concatenate(arrays)

    probabilities = None if scored.probabilities is None else one_array("probabilities")
    errors = {row: problem for _, part in parts for row, problem in part.items()}
    return Scores(one_array("values"), probabilities), errors


def shifted(errors: Mapping[int, Problem], start: int) -> dict[int, Problem]:
    """The errors of a part of a frame, by row of the frame; the part begins at `start`."""
    return {start + row: replace(error, record=start + row) for row, error in errors.items()}


# The answer's columns


def rules_of(options: RequestOptions, limits: Limits) -> Rules:
    """The rules that records are held to beside their types."""
    if options is NO_OPTIONS and limits.suggestions:  # as in nearly all requests
        return NO_RULES
    return Rules(options.unseen.value, options.out_of_range.value, limits.suggestions)


def all_problems(checked: CheckedRecords, errors: Mapping[int, Problem]) -> dict[int, Problem]:
    """What is wrong with records, by index: found by the check, and by the pipeline (by frame row)."""
    problems = {problem.record: problem for problem in checked.problems}
    for row, problem in errors.items():
        problems[row if checked.good is None else int(checked.good[row])] = problem
    return problems


def table_result(
    checked: CheckedRecords,
    scores: Scores,
    errors: Mapping[int, Problem],
    loaded: LoadedVersion,
    options: RequestOptions,
    *,
    count: int,
    body_bytes: int,
    position: Position,
    write: Callable[[Any], bytes | memoryview],
) -> CodecResult:
    """The answer to a request in rows: `write` makes the body from an Arrow table of `count` rows.
    What it says about errors depends on `body_bytes`, the size of the request.

    Raises:
        RequestRefused: E_WIRE; a class was asked for that the version does not have.
    """
    problems = all_problems(checked, errors)
    columns: dict[str, Any] = {}
    outputs, values = loaded.outputs, scores.values
    prediction_index = {name: index for index, name in enumerate(outputs.prediction_columns)}
    probability_index = {name: index for index, name in enumerate(outputs.probability_columns)}
    source = None
    if problems:
        rows = np.full(count, -1, dtype=np.int64)
        rows[slice(None) if checked.good is None else checked.good] = np.arange(len(checked.rows))
        rows[list(problems)] = -1
        source = pa.array(rows, mask=rows < 0)

    def spread(values: Any) -> Any:
        """The answers of good records at their indices, null everywhere else."""
        answers = pa.array(values) if values.ndim == 1 and values.dtype != object else None
        listed = values.tolist() if answers is None else []
        if {int, float} <= set(map(type, listed)):
            # Arrow refuses a whole number that a fraction cannot hold; beside fractions it becomes one.
            listed = [None if value is None else float(value) for value in listed]
        if answers is None:
            try:
                answers = pa.array(listed)
            except (pa.ArrowInvalid, pa.ArrowTypeError):  # several outputs of different types
                answers = pa.array([row and list(map(str, row)) for row in listed])
        return answers if source is None else answers.take(source)

    for name in output_names(loaded, options):
        if name in prediction_index and values.ndim > 1:
            columns[name] = spread(values[:, prediction_index[name]])
        # All values of a record, or all there is where no row could be scored.
        elif name == "prediction" or name in prediction_index:
            columns[name] = spread(values)
        elif name == "error":
            texts: list[str | None] = [None] * count
            for index, text in error_texts(problems, body_bytes, options.first_row):
                texts[index] = text
            columns[name] = (
                pa.array(texts, pa.string()) if problems else pa.nulls(count, pa.string())
            )
        elif name == "warnings":
            messages: list[list[str]] = [[] for _ in range(count)]
            room = full_bytes(body_bytes)
            for warning in each_warning(checked, loaded):
                if warning.index not in problems:
                    room -= len(warning.message)
                    text = warning.message if room >= 0 else f"column {warning.column!r}"
                    messages[warning.index].append(f"{warning.code}: {text}")
            columns[name] = pa.array(
                [_SEPARATOR.join(row) or None for row in messages], pa.string()
            )
        elif scores.probabilities is None:
            # Where no row could be scored there are none, but their columns must be there.
            columns[name] = pa.nulls(count, pa.float64())
        else:
            columns[name] = spread(scores.probabilities[:, probability_index[name]])
    faults = count_faults(problems.values())
    return CodecResult(
        records=count,
        classes=loaded.classes,
        rejected=count_codes(faults),
        faults=faults,
        problems=rejected_rows(problems, options.problems, position),
        warned=[_warned(checked, loaded, anomaly, position) for anomaly in checked.anomalies],
        body=write(pa.table(columns)),
    )


def output_names(loaded: LoadedVersion, options: RequestOptions) -> list[str]:
    """The answer's columns.

    Raises:
        RequestRefused: E_WIRE; an output or a class was asked for that the version does not have.
    """
    outputs = loaded.outputs
    columns = [*outputs.prediction_columns, *outputs.probability_columns]
    if options.outputs is None:
        # Callers who know one output alone look for the columns that there have always been.
        return ["prediction", *map(probability_column, outputs.classes or ()), "error"]
    own_names, names = frozenset(columns), list[str]()
    for name in dict.fromkeys(options.outputs):
        if name.startswith(("prediction_", "probability_")) and name not in own_names:
            available = ", ".join(columns)
            message = f"there is no output {name[:80]!r}; this version has {available}"
            raise RequestRefused(Code.WIRE, message[:500])
        names += outputs.probability_columns if name == "probability" else [name]
    return names


# Details


def error_details(problem: Problem) -> dict[str, Any]:
    """A problem as answers have it: code, message, and column and value where there is one."""
    details = {"code": problem.code, "message": problem.message}
    if problem.column is not None:
        details["column"] = problem.column
    if problem.value is not None:
        details["value"] = problem.value
    return details


def rejected_rows(
    problems: Mapping[int, Problem], limit: int, position: Position
) -> list[dict[str, Any]]:
    """The details of the first rejected rows, in order."""
    return [
        position(index) | error_details(problems[index])
        for index in islice(sorted(problems), limit)
    ]


def count_faults(problems: Iterable[Problem]) -> Faults:
    """How many problems there are of each code and column."""
    return Counter((problem.code, problem.column) for problem in problems)


def count_codes(faults: Faults) -> dict[str, int]:
    """How many faults there are of each code."""
    codes: Counter[str] = Counter()
    for (code, _), number in faults.items():
        codes[code] += number
    return dict(codes)


@dataclass(frozen=True, slots=True)
class AnomalousValue:
    """A value of one record that the rules warn of."""

    index: int
    code: str
    column: str
    value: str
    message: str


def each_warning(checked: CheckedRecords, loaded: LoadedVersion) -> Iterator[AnomalousValue]:
    """The warnings of all records, column by column."""
    for anomaly in checked.anomalies:
        column = _column(loaded, anomaly)
        values = _values(checked, anomaly).tolist()
        for index, value in zip(anomaly.records.tolist(), values, strict=True):
            message = describe_anomaly(anomaly.code, column, value)
            if anomaly.code == WarningCode.UNSEEN_CATEGORY and checked.hints:
                message += checked.hints.of(column, str(value))
            yield AnomalousValue(index, anomaly.code, anomaly.column, shown(value), message)


def _warned(
    checked: CheckedRecords, loaded: LoadedVersion, anomaly: Anomaly, position: Position
) -> dict[str, Any]:
    """How often a column has unusual values, and the most frequent of them with their first record."""
    values, records = _values(checked, anomaly).tolist(), anomaly.records.tolist()
    first_records = dict(zip(reversed(values), reversed(records), strict=True))
    examples = []
    # Of equally frequent values, the first comes first.
    for value, count in Counter(values).most_common(EXAMPLES):
        example = position(first_records[value]) | {"value": shown(value), "count": count}
        if anomaly.code == WarningCode.UNSEEN_CATEGORY and checked.hints:
            near = checked.hints.near(_column(loaded, anomaly), str(value))
            example |= {"nearest": near} if near is not None else {}
        examples.append(example)
    return {
        "code": anomaly.code,
        "column": anomaly.column,
        "count": len(anomaly.records),
        "examples": examples,
    }


def _column(loaded: LoadedVersion, anomaly: Anomaly) -> Column:
    assert loaded.schema is not None  # noqa: S101 - without a schema nothing is unusual
    return next(column for column in loaded.schema.columns if column.name == anomaly.column)


def _values(checked: CheckedRecords, anomaly: Anomaly) -> Any:
    """The column's values at the anomaly's records, as numpy has them."""
    rows, indices = checked.rows, anomaly.records
    if checked.good is not None:
        indices = np.searchsorted(checked.good, indices)
    values = whole(rows.column(rows.names.index(anomaly.column))).take(indices)
    return values if isinstance(values, np.ndarray) else values.to_numpy()
