"""From the store to a version that answers: open, verify, unpickle, check golden rows, serve."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt
import pandas as pd

from scoreline_artifacts import environment, golden
from scoreline_artifacts.errors import ArtifactError, GoldenMismatch, ModelOutputError
from scoreline_artifacts.loading.answers import (
    probability_rows,
    unusable_probabilities,
    usable_values,
    value_rows,
)
from scoreline_artifacts.loading.namespace import Namespace
from scoreline_artifacts.loading.one_call import ClassFrom, class_from, likeliest, tied
from scoreline_artifacts.loading.process_settings import ProcessSettings
from scoreline_artifacts.manifest import (
    GOLDEN,
    PIPELINE,
    SOURCES,
    Manifest,
    Outputs,
    OutputType,
    PipelineOutput,
)
from scoreline_artifacts.schema import Schema
from scoreline_artifacts.store.store import Store
from scoreline_artifacts.validation import frame_of_records

_WRITES_THROUGH = int(pd.__version__.partition(".")[0]) < 3
"""Before pandas 3, writing into a shallow copy of a frame changes the frame."""
NO_SETTINGS = ProcessSettings()
"""Of a pipeline that brings no modules."""


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
    namespace: Namespace | None = None
    """The modules that travelled with it."""
    class_from: ClassFrom = ClassFrom.PREDICT
    """Whether one call serves for both class and probabilities."""

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
            class_from=_class_from(pipeline, outputs),
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

    def score(self, frame: pd.DataFrame) -> Scores:
        """Score the rows of a frame that has the columns and types of training; it stays as it is.

        Raises:
            ModelOutputError: the answer does not have one row for each row, or not the outputs of training.
            Exception: whatever the pipeline raises.
        """
        outputs, count = self.outputs, len(frame)
        probabilities = None
        # The worker's processes are the parallelism: an estimator's n_jobs may only start threads.
        with joblib.parallel_config(backend="threading"), self.settings.in_force():
            if self.has_probabilities:
                given = probability_rows(self.pipeline.predict_proba(_own(frame)), count)
                width = len(outputs.probability_columns)
                if given.shape[1] != width:
                    raise ModelOutputError(
                        f"predict_proba gave {given.shape[1]} columns for {width} classes"
                    )
                probabilities = given.astype(np.float64, copy=False)
                unusable = unusable_probabilities(probabilities)
                if self.class_from is not ClassFrom.PREDICT:
                    classes = np.asarray(self.pipeline.classes_)
                    values = value_rows(classes[likeliest(given)], count, outputs.method)
                    if self.class_from is ClassFrom.PROBABILITIES_UNLESS_TIED:
                        rows = tied(given)
                        if len(rows) and self.batchable:
                            values[rows] = self._values(frame.iloc[rows].reset_index(drop=True))
                        elif len(rows):
                            values = self._values(frame)
                    return Scores(values, probabilities, unusable)
            values = self._values(frame)
        found = 1 if values.ndim == 1 else values.shape[1]
        if outputs.each is not None and found != len(outputs.each):
            raise ModelOutputError(
                f"{outputs.method} gave {found} values for each row, and {len(outputs.each)} in training"
            )
        values, reasons = usable_values(values, outputs.types)
        if probabilities is not None:
            reasons = unusable | reasons
        return Scores(values, probabilities, reasons)

    def _values(self, frame: pd.DataFrame) -> npt.NDArray[Any]:
        method = self.outputs.method
        return value_rows(getattr(self.pipeline, method)(_own(frame)), len(frame), method)

    def score_records(self, records: Sequence[dict[str, Any]]) -> list[golden.GoldenRow]:
        """Score raw records, all of which must be valid.

        Raises:
            ArtifactError: one of them is not valid.
        """
        checked = frame_of_records(records, self.schema)
        if checked.problems:
            raise ArtifactError(f"a golden row is refused: {checked.problems[0].message}")
        scores = self.score(checked.frame)
        return golden.rows_of(records, scores.values, scores.probabilities)

    def check_golden_rows(self, rows: Sequence[golden.GoldenRow], tolerance: float) -> None:
        """Score golden rows and compare the answers with those of training.

        Raises:
            GoldenMismatch: names the first row that differs by more than the tolerance.
            ArtifactError: the rows cannot be scored at all.
        """
        answers = self.score_records([row.record for row in rows])
        for index, (row, answer) in enumerate(zip(rows, answers, strict=True)):
            if golden.same_answer(row, answer, tolerance):
                continue
            want, got = row.value, answer.value
            if golden.equal(want, got, tolerance):
                want, got = row.probabilities, answer.probabilities
            raise GoldenMismatch(self.model, self.version, index, want, got)


def load(store: Store, model: str, version: int, *, strict: bool = False) -> LoadedVersion:
    """Load a version, proven to answer as it did in training.

    `strict` refuses an environment that differs from training's in ways that often do not matter.

    Raises:
        UnknownModelError, UnknownVersionError: it is not in the store.
        UntrustedArtifact: no key that is trusted here has signed it; nothing was unpickled.
        CorruptArtifact: its bytes are not those that were published; nothing was unpickled.
        UnfitEnvironment: this environment lacks something that it needs; nothing was unpickled.
        GoldenMismatch: its answers differ from those of training.
    """
    loaded, check = load_unproven(store, model, version, strict=strict)
    check()
    return loaded


def load_unproven(
    store: Store, model: str, version: int, *, strict: bool = False
) -> tuple[LoadedVersion, Callable[[], None]]:
    """Load a version without scoring anything; the function that is returned with it checks its golden rows.

    Raises:
        ArtifactError: what `load` raises, but for GoldenMismatch, which the function raises.
    """
    manifest = store.manifest(model, version)
    environment.check(manifest, strict=strict)
    # Every file, including those that serving does not need: an artifact is complete, or it is refused.
    files = store.read_all(manifest)
    # Popped: the bytes of a large pipeline need not be kept beside it while it is checked.
    loaded = assemble(manifest, files.pop)
    rows = golden.decode(files.pop(GOLDEN))
    del files
    if manifest.outputs.each is None:
        loaded = replace(loaded, outputs=replace(manifest.outputs, each=_outputs_in(rows)))
    return loaded, lambda: loaded.check_golden_rows(rows, manifest.tolerance)


def assemble(
    manifest: Manifest, read: Callable[[str], bytes], namespace: Namespace | None = None
) -> LoadedVersion:
    """Unpickle a version; `read` returns the verified bytes of its files."""
    namespace = namespace or namespace_of(manifest, read)
    with namespace.settings.recorded():
        pipeline = unpickle(read(PIPELINE), namespace)
    return LoadedVersion(
        pipeline=pipeline,
        model=manifest.model,
        version=manifest.version,
        outputs=manifest.outputs,
        schema=manifest.schema,
        batchable=manifest.batchable,
        manifest=manifest,
        namespace=namespace,
        class_from=_class_from(pipeline, manifest.outputs),
    )


def namespace_of(
    manifest: Manifest, read: Callable[[str], bytes], listed: Iterable[str] = ()
) -> Namespace:
    """The private modules of a version, of which none has been executed yet; `listed` as for Namespace."""
    return Namespace(
        f"{manifest.model}@{manifest.version}",
        manifest.sources,
        {name: read(name) for name in manifest.files if name.startswith(SOURCES)},
        listed=listed,
    )


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


def _class_from(pipeline: Any, outputs: Outputs) -> ClassFrom:
    return ClassFrom.PREDICT if not outputs.classes or outputs.is_several else class_from(pipeline)


def _outputs_in(rows: Sequence[golden.GoldenRow]) -> list[PipelineOutput] | None:
    """The outputs of an artifact of an earlier release, as its golden rows have them."""
    if not rows:
        return None
    columns = [row.value if isinstance(row.value, list) else [row.value] for row in rows]
    outputs = []
    for index, values in enumerate(zip(*columns, strict=True)):
        types = {
            OutputType.TEXT
            if isinstance(value, str)
            else OutputType.BOOLEAN
            if isinstance(value, bool)
            else OutputType.NUMBER
            for value in values
        }
        name = index if len(columns[0]) > 1 else None
        outputs.append(PipelineOutput(name=name, type=types.pop() if len(types) == 1 else None))
    return outputs


def unpickle(data: bytes, namespace: Namespace) -> Any:
    """Unpickle verified bytes: unpickling executes whatever the bytes say, so never call it with others.

    `namespace` holds the modules that travelled with the version.
    """
    import dill

    class Unpickler(dill.Unpickler):  # type: ignore[misc]
        def find_class(self, module: str, name: str) -> Any:
            private = namespace.find(module, name)
            if private is not None:
                return private
            with suppress(ImportError):  # raised again below, as pickle words it
                namespace.settings.import_installed(module)
            return super().find_class(module, name)

    # ignore: an object of a class of training's __main__ has nothing to do with this process's __main__.
    return Unpickler(io.BytesIO(data), ignore=True).load()


def _own(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame that a pipeline may write into: the rows may have to be scored once more."""
    return frame.copy(deep=_WRITES_THROUGH)
