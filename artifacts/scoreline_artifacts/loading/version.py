"""From the store to a version that answers: open, verify, unpickle, check golden rows, serve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt
import pandas as pd

from scoreline_artifacts import environment, golden
from scoreline_artifacts.errors import ArtifactError, GoldenMismatch, ModelOutputError
from scoreline_artifacts.loading import unpickling
from scoreline_artifacts.loading.namespace import Namespace
from scoreline_artifacts.manifest import GOLDEN, PIPELINE, SOURCES, Manifest, Outputs
from scoreline_artifacts.schema import Schema
from scoreline_artifacts.store.store import Store
from scoreline_artifacts.validation import frame_of_records


@dataclass(frozen=True, slots=True)
class Scores:
    """What a pipeline answers for the rows of a frame."""

    values: npt.NDArray[Any]
    """(rows,) or (rows, outputs)."""
    probabilities: npt.NDArray[np.float64] | None
    """(rows, classes), or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedVersion:
    """A pipeline in memory, and how to ask it."""

    pipeline: Any
    model: str
    version: int
    outputs: Outputs
    schema: Schema | None = None
    """What records are held to; None takes any mapping."""
    batchable: bool = True
    manifest: Manifest | None = None
    namespace: Namespace | None = None
    """Where the modules that came with it live."""

    @classmethod
    def of(
        cls, pipeline: Any, model: str, version: int = 1, schema: Schema | None = None
    ) -> LoadedVersion:
        """A pipeline that comes from no artifact: for tests, and on its way into one."""
        return cls(
            pipeline=pipeline,
            model=model,
            version=version,
            outputs=outputs_of(pipeline),
            schema=schema,
        )

    @property
    def classes(self) -> list[Any] | None:
        """What the probabilities are about, in order; None when there are none."""
        return self.outputs.classes

    @property
    def has_probabilities(self) -> bool:
        return self.outputs.classes is not None

    def score(self, frame: pd.DataFrame) -> Scores:
        """Ask the pipeline about every row of a frame that has the columns and types of training.

        Raises:
            ModelOutputError: the answer does not have one row for each row.
            Exception: whatever the pipeline raises.
        """
        # Processes are the workers here: what an estimator wants to do with n_jobs is done by threads.
        with joblib.parallel_config(backend="threading"):
            return self._score(frame)

    def _score(self, frame: pd.DataFrame) -> Scores:
        count = len(frame)
        probabilities = None
        if self.outputs.classes is not None:
            probabilities = _rows(self.pipeline.predict_proba(frame), count, "predict_proba")
            if probabilities.shape[1:] != (len(self.outputs.classes),):
                raise ModelOutputError(
                    f"predict_proba gave {probabilities.shape[1:]} columns for "
                    f"{len(self.outputs.classes)} classes"
                )
        if self.outputs.value_from == "probabilities" and probabilities is not None:
            classes = np.asarray(self.outputs.classes)
            return Scores(classes[_likeliest(probabilities)], probabilities)
        method = self.outputs.method
        return Scores(_rows(getattr(self.pipeline, method)(frame), count, method), probabilities)

    def score_records(self, records: Sequence[dict[str, Any]]) -> list[golden.GoldenRow]:
        """Score raw records that are all good.

        Raises:
            ArtifactError: one of them is not.
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


def _likeliest(probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """(rows,) Which class has the largest share of each row; the first of those that are equal."""
    if probabilities.shape[1] == 2:
        # What argmax says, in less than a tenth of the time.
        return np.asarray(probabilities[:, 1] > probabilities[:, 0], dtype=np.intp)
    return np.asarray(probabilities.argmax(axis=1))


def load(store: Store, model: str, version: int, *, strict: bool = False) -> LoadedVersion:
    """Bring a version into memory, proven to answer as it did in training.

    `strict` refuses an environment that differs from training's in ways that often do not matter.

    Raises:
        UnknownModelError, UnknownVersionError: it is not in the store.
        UntrustedArtifact: it is not signed by a key that is trusted here; nothing was unpickled.
        CorruptArtifact: its bytes are not those that were published; nothing was unpickled.
        UnfitEnvironment: something that it needs is not here; nothing was unpickled.
        GoldenMismatch: it answers otherwise here than in training.
    """
    manifest = store.manifest(model, version)
    environment.check(manifest, strict=strict)
    # All of them, also those that are not needed to serve: an artifact is right, or it is refused.
    files = store.read_all(manifest)
    # Popped: a large pipeline's bytes are not kept beside it while it is checked.
    loaded = assemble(manifest, files.pop)
    loaded.check_golden_rows(golden.decode(files.pop(GOLDEN)), manifest.tolerance)
    return loaded


def assemble(
    manifest: Manifest, read: Callable[[str], bytes], namespace: Namespace | None = None
) -> LoadedVersion:
    """Unpickle a version, whose files `read` brings, verified, and give its modules their own place."""
    namespace = namespace or namespace_of(manifest, read)
    return LoadedVersion(
        pipeline=unpickling.unpickle(read(PIPELINE), namespace),
        model=manifest.model,
        version=manifest.version,
        outputs=manifest.outputs,
        schema=manifest.schema,
        batchable=manifest.batchable,
        manifest=manifest,
        namespace=namespace,
    )


def namespace_of(manifest: Manifest, read: Callable[[str], bytes]) -> Namespace:
    """The private place of a version's modules; nothing in it has been executed yet."""
    return Namespace(
        f"{manifest.model}@{manifest.version}",
        manifest.sources,
        {name: read(name) for name in manifest.files if name.startswith(SOURCES)},
    )


def outputs_of(pipeline: Any) -> Outputs:
    """How a fitted pipeline is to be asked.

    Raises:
        ModelOutputError: it has neither predict nor transform.
    """
    if hasattr(pipeline, "predict"):
        found = getattr(pipeline, "classes_", None)
        # Several outputs have a list of arrays here, and probabilities of another shape.
        if isinstance(found, np.ndarray) and hasattr(pipeline, "predict_proba"):
            return Outputs(method="predict", classes=found.tolist())
        return Outputs(method="predict")
    if hasattr(pipeline, "transform"):
        return Outputs(method="transform")
    raise ModelOutputError(f"{type(pipeline).__name__} has neither predict nor transform")


def _rows(answer: Any, count: int, method: str) -> npt.NDArray[Any]:
    if hasattr(answer, "toarray"):
        answer = answer.toarray()
    array = np.asarray(answer)
    if array.shape[:1] != (count,):
        raise ModelOutputError(f"{method} gave an answer of shape {array.shape} for {count} rows")
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
