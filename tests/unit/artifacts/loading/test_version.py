"""From the store to a version that answers, or to an error that says why not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from scoreline_artifacts import (
    CorruptArtifact,
    GoldenMismatch,
    ModelOutputError,
    Store,
    golden,
)
from scoreline_artifacts.golden import GoldenRow
from scoreline_artifacts.loading import artifact
from scoreline_artifacts.loading.artifact import load
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_artifacts.manifest import GOLDEN, PIPELINE, Outputs
from scoreline_artifacts.packaging import pickling
from scoreline_artifacts.schema import Schema
from scoreline_artifacts.store.store import describe_file
from tests.support.stores import manifest_of

FRAME = pd.DataFrame({"x": np.linspace(-3, 3, 30), "y": np.linspace(5, 0, 30)})
LABELS = np.where(FRAME["x"] > 0, "high", "low")


def _publish(store: Store, rows: list[GoldenRow] | None = None) -> LogisticRegression:
    pipeline = LogisticRegression(solver="liblinear").fit(FRAME, LABELS)
    schema = Schema.infer(FRAME)
    here = LoadedVersion.of(pipeline, "sides", schema=schema)
    if rows is None:
        records: Any = FRAME.iloc[[0, 15, 29]].to_dict("records")
        rows = here.score_records(records)
    files = {PIPELINE: pickling.dump(pipeline).data, GOLDEN: golden.encode(rows)}
    manifest = replace(manifest_of(files, 1, "sides"), schema=schema, outputs=here.outputs)
    store.publish(manifest, files)
    return pipeline


def test_a_loaded_version_answers_as_the_pipeline_did(tmp_path: Path) -> None:
    pipeline = _publish(Store(tmp_path))
    scores = load(Store(tmp_path), "sides", 1).score(FRAME)
    assert scores.values.tolist() == pipeline.predict(FRAME).tolist()
    np.testing.assert_array_equal(scores.probabilities, pipeline.predict_proba(FRAME))


def test_a_version_that_fails_its_golden_rows_is_refused(tmp_path: Path) -> None:
    wrong = GoldenRow({"x": -3.0, "y": 5.0}, "high", [0.9, 0.1])
    _publish(Store(tmp_path), [wrong])
    with pytest.raises(GoldenMismatch, match="row 0 gave 'low' here and 'high' in training"):
        load(Store(tmp_path), "sides", 1)


def test_changed_bytes_are_not_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    _publish(store)
    file = store.path("sides", 1) / PIPELINE
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    unpickled: list[bytes] = []
    monkeypatch.setattr(artifact, "unpickle", lambda data, _: unpickled.append(data))
    with pytest.raises(CorruptArtifact, match="sha256"):
        load(store, "sides", 1)
    assert unpickled == []


def test_the_bytes_that_were_verified_are_those_that_are_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    _publish(store)
    restored: list[bytes] = []
    original = artifact.unpickle

    def unpickle(data: bytes, namespace: Any) -> Any:
        restored.append(data)
        return original(data, namespace)

    monkeypatch.setattr(artifact, "unpickle", unpickle)
    load(store, "sides", 1)
    entry = store.manifest("sides", 1).files[PIPELINE]
    assert [describe_file(data) for data in restored] == [entry]


@pytest.mark.parametrize(
    ("pipeline", "has_probabilities", "shape"),
    [
        (LogisticRegression(solver="liblinear").fit(FRAME, LABELS), True, (30,)),
        (LinearSVC().fit(FRAME, LABELS), False, (30,)),
        (LinearRegression().fit(FRAME, FRAME["x"]), False, (30,)),
        (LinearRegression().fit(FRAME, FRAME[["x"]]), False, (30,)),
        (LinearRegression().fit(FRAME, FRAME), False, (30, 2)),
        (IsolationForest(n_estimators=3, random_state=0).fit(FRAME), False, (30,)),
        (
            MultiOutputClassifier(DummyClassifier()).fit(FRAME, np.column_stack([LABELS] * 2)),
            False,
            (30, 2),
        ),
        (StandardScaler().fit(FRAME), False, (30, 2)),
    ],
    ids=[
        "classifier",
        "classifier without probabilities",
        "regressor",
        "one output as a column",
        "two outputs",
        "outlier detector",
        "two labels",
        "transformer",
    ],
)
def test_any_kind_of_pipeline_answers(
    pipeline: Any, has_probabilities: bool, shape: tuple[int, ...]
) -> None:
    loaded = LoadedVersion.of(pipeline, "any")
    scores = loaded.score(FRAME)
    assert scores.values.shape == shape
    assert (scores.probabilities is not None) == has_probabilities == loaded.has_probabilities


def test_an_artifact_that_claims_one_call_is_decided_anew(tmp_path: Path) -> None:
    """As artifacts of earlier releases do, where predict and probabilities agreed on training rows."""
    store, schema = Store(tmp_path), Schema.infer(FRAME)
    careful = FixedThresholdClassifier(LogisticRegression(solver="liblinear"), threshold=0.9)
    careful.fit(FRAME, LABELS)
    records: Any = FRAME.iloc[[0, 29]].to_dict("records")
    outputs = Outputs(method="predict", classes=["high", "low"], value_from="probabilities")
    here = replace(LoadedVersion.of(careful, "sides", schema=schema), outputs=outputs)
    rows = golden.encode(here.score_records(records))
    files = {PIPELINE: pickling.dump(careful).data, GOLDEN: rows}
    manifest = replace(manifest_of(files, 1, "sides"), schema=schema, outputs=outputs)
    store.publish(manifest, files)
    scores = load(store, "sides", 1).score(FRAME)
    assert scores.values.tolist() == careful.predict(FRAME).tolist()


def test_golden_rows_tell_the_outputs_of_an_artifact_of_an_earlier_release(tmp_path: Path) -> None:
    store, schema = Store(tmp_path), Schema.infer(FRAME)
    pipeline = LinearRegression().fit(FRAME, FRAME)
    records: Any = FRAME.iloc[[0, 29]].to_dict("records")
    rows = golden.encode(LoadedVersion.of(pipeline, "sides", schema=schema).score_records(records))
    files = {PIPELINE: pickling.dump(pipeline).data, GOLDEN: rows}
    store.publish(replace(manifest_of(files, 1, "sides"), schema=schema), files)
    outputs = load(store, "sides", 1).outputs
    assert outputs.prediction_columns == ["prediction_0", "prediction_1"]
    assert outputs.types == ["number", "number"]


class _Answers:
    """A pipeline that always answers the same."""

    def __init__(self, answer: object) -> None:
        self._answer = answer

    def predict(self, frame: pd.DataFrame) -> object:
        return self._answer


@pytest.mark.parametrize("answer", [[1, 2], [], 7, None])
def test_an_answer_of_another_length_is_refused(answer: object) -> None:
    with pytest.raises(ModelOutputError, match="for 30 rows"):
        LoadedVersion.of(_Answers(answer), "m").score(FRAME)


def test_what_can_neither_predict_nor_transform_is_refused() -> None:
    with pytest.raises(ModelOutputError, match="neither predict nor transform"):
        LoadedVersion.of(object(), "m")


@pytest.mark.parametrize("data", [b"{", b'{"nothing": 1}\n', b"7\n"])
def test_broken_golden_rows_are_refused(data: bytes) -> None:
    with pytest.raises(CorruptArtifact, match=r"golden\.jsonl"):
        golden.decode(data)


def test_golden_rows_are_the_same_after_their_bytes() -> None:
    rows = [GoldenRow({"x": 0.1 + 0.2, "s": "é\n"}, "high", [1 / 3, 2 / 3]), GoldenRow({}, 1, None)]
    assert golden.decode(golden.encode(rows)) == rows


@pytest.mark.parametrize(
    ("want", "got", "same"),
    [
        (1.0, 1.0 + 1e-12, True),
        (1.0, 1.001, False),
        (0.0, 1e-12, True),
        ([0.5, 0.5], [0.5, 0.5 + 1e-12], True),
        ([0.5], [0.5, 0.5], False),
        ("a", "a", True),
        ("a", "b", False),
        (1, 2, False),
        (None, 0.0, False),
    ],
)
def test_answers_are_equal_up_to_the_tolerance(want: Any, got: Any, same: bool) -> None:
    assert golden.equal(want, got, 1e-9) is same
