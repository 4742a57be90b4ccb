"""From the store to a version that answers: open, verify, unpickle, check golden rows, serve."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt
import pandas as pd

from scoreline_artifacts import environment, golden
from scoreline_artifacts.errors import ArtifactError, GoldenMismatch, ModelOutputError
from scoreline_artifacts.loading.namespace import Namespace
from scoreline_artifacts.manifest import GOLDEN, PIPELINE, SOURCES, Manifest, Outputs
from scoreline_artifacts.schema import Schema
from scoreline_artifacts.store.store import Store
from scoreline_artifacts.validation import frame_of_records


@dataclass(frozen=True, slots=True)
class Scores:
    """The pipeline's answers for the rows of a frame."""

    values: npt.NDArray[Any]
    """(rows,) or (rows, outputs)."""
    probabilities: npt.NDArray[np.float64] | None
    """(rows, classes), or None."""


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

    @classmethod
    def of(
        cls, pipeline: Any, model: str, version: int = 1, schema: Schema | None = None
    ) -> LoadedVersion:
        """A pipeline that is not of an artifact: in tests, and before it is published."""
        return cls(
            pipeline=pipeline,
            model=model,
            version=version,
            outputs=outputs_of(pipeline),
            schema=schema,
        )

    @property
    def classes(self) -> list[Any] | None:
        """The classes of the probabilities, in order; None without probabilities."""
        return self.outputs.classes

    @property
    def has_probabilities(self) -> bool:
        return self.outputs.classes is not None

    def score(self, frame: pd.DataFrame) -> Scores:
        """Score the rows of a frame that has the columns and types of training.

        Raises:
            ModelOutputError: the answer does not have one row for each row.
            Exception: whatever the pipeline raises.
        """
        # The worker's processes are the parallelism: an estimator's n_jobs may only start threads.
        with joblib.parallel_config(backend="threading"):
            classes, method = self.outputs.classes, self.outputs.method
            probabilities = None
            if classes is not None:
                probabilities = _as_rows(self.pipeline.predict_proba(frame), frame, "predict_proba")
                if probabilities.shape[1:] != (len(classes),):
                    raise ModelOutputError(
                        f"predict_proba gave {probabilities.shape[1:]} columns for {len(classes)} classes"
                    )
                if self.outputs.value_from == "probabilities":
                    if len(classes) == 2:
                        # As argmax does, in less than a tenth of the time: the first of equal shares.
                        likeliest = (probabilities[:, 1] > probabilities[:, 0]).astype(np.intp)
                    else:
                        likeliest = probabilities.argmax(axis=1)
                    return Scores(np.asarray(classes)[likeliest], probabilities)
            values = _as_rows(getattr(self.pipeline, method)(frame), frame, method)
            return Scores(values, probabilities)

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
    manifest = store.manifest(model, version)
    environment.check(manifest, strict=strict)
    # Every file, including those that serving does not need: an artifact is complete, or it is refused.
    files = store.read_all(manifest)
    # Popped: the bytes of a large pipeline need not be kept beside it while it is checked.
    loaded = assemble(manifest, files.pop)
    loaded.check_golden_rows(golden.decode(files.pop(GOLDEN)), manifest.tolerance)
    return loaded


def assemble(
    manifest: Manifest, read: Callable[[str], bytes], namespace: Namespace | None = None
) -> LoadedVersion:
    """Unpickle a version; `read` returns the verified bytes of its files."""
    namespace = namespace or namespace_of(manifest, read)
    return LoadedVersion(
        pipeline=unpickle(read(PIPELINE), namespace),
        model=manifest.model,
        version=manifest.version,
        outputs=manifest.outputs,
        schema=manifest.schema,
        batchable=manifest.batchable,
        manifest=manifest,
        namespace=namespace,
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
    """How a fitted pipeline is called, and the classes of its probabilities.

    Raises:
        ModelOutputError: it has neither predict nor transform.
    """
    if hasattr(pipeline, "predict"):
        classes = getattr(pipeline, "classes_", None)
        # Several outputs have a list of arrays here, and probabilities of another shape.
        if isinstance(classes, np.ndarray) and hasattr(pipeline, "predict_proba"):
            return Outputs(method="predict", classes=classes.tolist())
        return Outputs(method="predict")
    if hasattr(pipeline, "transform"):
        return Outputs(method="transform")
    raise ModelOutputError(f"{type(pipeline).__name__} has neither predict nor transform")


def unpickle(data: bytes, namespace: Namespace) -> Any:
    """Unpickle verified bytes: unpickling executes whatever the bytes say, so never call it with others.

    `namespace` holds the modules that travelled with the version.
    """
    import dill

    class Unpickler(dill.Unpickler):  # type: ignore[misc]
        def find_class(self, module: str, name: str) -> Any:
            private = namespace.find(module, name)
            return super().find_class(module, name) if private is None else private

    # ignore: an object of a class of training's __main__ has nothing to do with this process's __main__.
    return Unpickler(io.BytesIO(data), ignore=True).load()


def _as_rows(answer: Any, frame: pd.DataFrame, method: str) -> npt.NDArray[Any]:
    """A pipeline's answer as an array, (rows,) or (rows, outputs)."""
    if hasattr(answer, "toarray"):
        answer = answer.toarray()
    array = np.asarray(answer)
    if array.shape[:1] != (len(frame),):
        raise ModelOutputError(
            f"{method} gave an answer of shape {array.shape} for {len(frame)} rows"
        )
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
