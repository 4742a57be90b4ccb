"""A version in memory: calls its pipeline, and tells which of the values that it returned are answers.

A value is text, true or false, or a finite number; whatever else a pipeline returns for a record costs that
record its answer and no other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt
import pandas as pd

from scoreline_artifacts import golden
from scoreline_artifacts.errors import ArtifactError, GoldenMismatch, ModelOutputError
from scoreline_artifacts.loading.namespace import Namespace
from scoreline_artifacts.loading.one_call import ClassFrom, class_from
from scoreline_artifacts.loading.planned import ProvenPlan
from scoreline_artifacts.loading.process_settings import ProcessSettings
from scoreline_artifacts.manifest import Manifest, Outputs, OutputType
from scoreline_artifacts.plan import ScoringPlan
from scoreline_artifacts.schema import Schema
from scoreline_artifacts.validation import CheckedRows, frame_of_records, shown

Array = npt.NDArray[Any]

NO_SETTINGS = ProcessSettings()
"""The settings of a pipeline that brings no modules."""
_TYPES = {
    "f": OutputType.NUMBER,
    "i": OutputType.NUMBER,
    "u": OutputType.NUMBER,
    "b": OutputType.BOOLEAN,
    "U": OutputType.TEXT,
}
"""What an array holds, by the kind of its dtype."""
_TYPE_NAMES = {
    OutputType.NUMBER: "a number",
    OutputType.BOOLEAN: "true or false",
    OutputType.TEXT: "text",
}
_NOT_FINITE = "the pipeline answered with NaN or infinity for this record"


@dataclass(frozen=True, slots=True)
class Scores:
    """The pipeline's answers for the rows of a frame."""

    values: npt.NDArray[Any]
    """(rows,) or (rows, outputs)."""
    probabilities: npt.NDArray[np.float64] | None
    """(rows, classes), or (rows, classes of all outputs), or None."""
    unusable: Mapping[int, str] = field(default_factory=dict)
    """Why rows have no answer, by row; their values and probabilities mean nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedVersion:
    """A pipeline in memory that scores frames and records."""

    pipeline: Any
    model: str
    version: int
    outputs: Outputs
    schema: Schema | None = None
    """Records are checked against it; None takes any mapping."""
    batchable: bool = True
    manifest: Manifest | None = None
    manifest_sha256: str = ""
    """Of the manifest's bytes in the store; empty for a pipeline that is not of an artifact."""
    namespace: Namespace | None = None
    """The modules that travelled with it."""
    class_from: ClassFrom = ClassFrom.PREDICT
    """Whether one call serves for both class and probabilities."""
    plan: ProvenPlan | None = None
    """Scores what it can, faster; None: the pipeline scores everything."""

    @classmethod
    def of(
        cls, pipeline: Any, model: str, version: int = 1, schema: Schema | None = None
    ) -> LoadedVersion:
        """A pipeline that is not of an artifact: in tests, and before it is published."""
        outputs = outputs_of(pipeline)
        return cls(
            pipeline=pipeline,
            model=model,
            version=version,
            outputs=outputs,
            schema=schema,
            class_from=class_source(pipeline, outputs),
        )

    @property
    def classes(self) -> list[Any] | None:
        """The classes of the probabilities, in order; None without probabilities."""
        return self.outputs.classes

    @property
    def settings(self) -> ProcessSettings:
        """What its modules have changed in the process: in force while it is scored."""
        return NO_SETTINGS if self.namespace is None else self.namespace.settings

    @property
    def has_probabilities(self) -> bool:
        return bool(self.outputs.probability_columns)

    def score(self, frame: pd.DataFrame | CheckedRows) -> Scores:
        """Score rows that have the columns and types of training; they stay as they are.

        Raises:
            ModelOutputError: the answer does not have one row for each row, or not the outputs of training.
            Exception: whatever the pipeline raises.
        """
        rows = CheckedRows.of(frame)
        if self.plan is not None and self.plan.takes(len(rows), self._score_by_plan):
            try:
                return self._score(rows, self.plan.plan)
            # Whatever it is, it is for the pipeline to say.
            except Exception:  # noqa: BLE001, S110
                pass
        return self._score(rows, self.pipeline)

    def _score(self, rows: CheckedRows, scorer: Any) -> Scores:
        """Score with the pipeline or with its plan."""
        outputs, count = self.outputs, len(rows)
        probabilities = None
        # The worker's processes are the parallelism: an estimator's n_jobs may only start threads.
        threads: AbstractContextManager[Any] = nullcontext()
        if not isinstance(scorer, ScoringPlan) or scorer.opaque:
            threads = joblib.parallel_config(backend="threading")
        with threads, self.settings.in_force():
            if self.has_probabilities:
                # In the estimator's own precision, on which ties depend.
                shares = probability_rows(scorer.predict_proba(_input_of(scorer, rows)), count)
                width = len(outputs.probability_columns)
                if shares.shape[1] != width:
                    raise ModelOutputError(
                        f"predict_proba gave {shares.shape[1]} columns for {width} classes"
                    )
                probabilities = shares.astype(np.float64, copy=False)
                unusable = unusable_probabilities(probabilities)
                if self.class_from is not ClassFrom.PREDICT:
                    classes = np.asarray(self.pipeline.classes_)
                    values = value_rows(classes[likeliest(shares)], count, outputs.method)
                    if self.class_from is ClassFrom.PROBABILITIES_UNLESS_TIED:
                        in_doubt = tied(shares)
                        if len(in_doubt) and self.batchable:
                            values[in_doubt] = self._values(rows.take(in_doubt), scorer)
                        elif len(in_doubt):
                            values = self._values(rows, scorer)
                    return Scores(values, probabilities, unusable)
            values = self._values(rows, scorer)
        width = 1 if values.ndim == 1 else values.shape[1]
        if outputs.each is not None and width != len(outputs.each):
            raise ModelOutputError(
                f"{outputs.method} gave {width} values for each row, and {len(outputs.each)} in training"
            )
        values, reasons = usable_values(values, outputs.types)
        if probabilities is not None:
            reasons = unusable | reasons
        return Scores(values, probabilities, reasons)

    def _values(self, rows: CheckedRows, scorer: Any) -> npt.NDArray[Any]:
        method = self.outputs.method
        return value_rows(getattr(scorer, method)(_input_of(scorer, rows)), len(rows), method)

    def _score_by_plan(self, records: Sequence[dict[str, Any]]) -> list[golden.GoldenRow]:
        return self.score_records(records, by_plan=True)

    def score_records(
        self, records: Sequence[dict[str, Any]], *, by_plan: bool = False
    ) -> list[golden.GoldenRow]:
        """Score raw records, all of which must be valid; `by_plan` has the plan alone score them.

        Raises:
            ArtifactError: one of them is not valid.
        """
        checked = frame_of_records(records, self.schema)
        if checked.problems:
            raise ArtifactError(f"a golden row is refused: {checked.problems[0].message}")
        if by_plan and self.plan is not None:
            scores = self._score(checked.rows, self.plan.plan)
        else:
            scores = self.score(checked.rows)
        return golden.rows_of(records, scores.values, scores.probabilities)

    def check_golden_rows(self, rows: Sequence[golden.GoldenRow], tolerance: float) -> None:
        """Score golden rows and compare the answers with those of training.

        Raises:
            GoldenMismatch: names the first row that differs by more than the tolerance.
            ArtifactError: the rows cannot be scored at all.
        """
        # The pipeline itself has to answer them, whatever its plan does.
        answers = replace(self, plan=None).score_records([row.record for row in rows])
        for index, (row, answer) in enumerate(zip(rows, answers, strict=True)):
            if golden.same_answer(row, answer, tolerance):
                continue
            want, got = row.value, answer.value
            if golden.equal(want, got, tolerance):
                want, got = row.probabilities, answer.probabilities
            raise GoldenMismatch(self.model, self.version, index, want, got)
        if self.plan is not None:
            # Not to be done by the first request; if it fails, the pipeline serves.
            self.plan.takes(1, self._score_by_plan)


def outputs_of(pipeline: Any) -> Outputs:
    """How a fitted pipeline is called, and the classes of its probabilities, as far as it says so itself.

    Raises:
        ModelOutputError: it has neither predict nor transform.
    """
    if hasattr(pipeline, "predict"):
        classes = getattr(pipeline, "classes_", None)
        # Several outputs have a list of arrays here: `publish` asks the pipeline for their probabilities.
        if isinstance(classes, np.ndarray) and hasattr(pipeline, "predict_proba"):
            return Outputs(method="predict", classes=classes.tolist())
        return Outputs(method="predict")
    if hasattr(pipeline, "transform"):
        return Outputs(method="transform")
    raise ModelOutputError(f"{type(pipeline).__name__} has neither predict nor transform")


def class_source(pipeline: Any, outputs: Outputs) -> ClassFrom:
    """Where the class of a record comes from, for a pipeline with these outputs."""
    return ClassFrom.PREDICT if not outputs.classes or outputs.is_several else class_from(pipeline)


def _input_of(scorer: Any, rows: CheckedRows) -> pd.DataFrame | CheckedRows:
    """Rows in the form in which a pipeline or a plan takes them."""
    return rows if isinstance(scorer, ScoringPlan) else rows.own_frame()


def likeliest(probabilities: Array) -> npt.NDArray[np.intp]:
    """(rows,) Indexes of the largest of (rows, classes) probabilities, the first of equal ones."""
    if probabilities.shape[1] == 2:
        # As argmax does, in less than a tenth of the time.
        return (probabilities[:, 1] > probabilities[:, 0]).astype(np.intp)
    return np.asarray(probabilities.argmax(axis=1))


def tied(probabilities: Array) -> npt.NDArray[np.intp]:
    """Indexes of rows whose two largest probabilities differ by no more than rounding may explain."""
    if probabilities.shape[1] == 1:
        return np.array([], dtype=np.intp)
    if probabilities.shape[1] == 2:
        lead = np.abs(probabilities[:, 1] - probabilities[:, 0])
    else:
        lead = np.ptp(np.partition(probabilities, -2, axis=1)[:, -2:], axis=1)
    return np.flatnonzero(lead < np.finfo(probabilities.dtype).eps ** 0.5)


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
    for table in answer if is_by_output(answer) else [answer]:
        array = np.asarray(table.toarray() if hasattr(table, "toarray") else table)
        if array.dtype == object:
            # What is no number is no probability: it becomes NaN, and costs its record the answer.
            is_number = np.frompyfunc(
                lambda value: isinstance(value, float | int | np.number), 1, 1
            )
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
    return isinstance(answer, list | tuple) and all(np.ndim(table) == 2 for table in answer)


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
        plain[row], kind = _plain(value)
        types.append(kind)
        if kind is None:
            unusable[row] = plain[row]
    # Where nothing is known of training, numbers come first: text among them is no answer.
    expected = expected or next((kind for kind in _TYPE_NAMES if kind in types), None)
    for row, kind in enumerate(types):
        if kind is not None and expected is not None and kind is not expected:
            unusable[row] = (
                f"the pipeline answered {shown(plain[row])} for this record, {_TYPE_NAMES[kind]}; its "
                f"other answers are {_TYPE_NAMES[expected]}"
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
    description = type(value).__name__
    if isinstance(value, int):
        description = "a whole number beyond 64 bits"
    elif isinstance(value, str):
        description = "text that is not Unicode"
    return (
        f"the pipeline answered {shown(value)} for this record, {description}; an answer is text, true or "
        "false, or a finite number of at most 64 bits",
        None,
    )


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
