"""publish(): what is proven gets a version, what is not leaves nothing."""

from __future__ import annotations

import math
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from redis import Redis
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from scoreline_artifacts import (
    InvalidName,
    KeyRing,
    NotReleased,
    Release,
    Store,
    UnsuitableData,
    golden,
)
from scoreline_artifacts.cli.diff import compare_answers
from scoreline_artifacts.errors import DoesNotTravel
from scoreline_artifacts.loading.artifact import load
from scoreline_artifacts.loading.planned import PlanProof
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_artifacts.manifest import GOLDEN, PLAN
from scoreline_artifacts.packaging import plan_proof
from scoreline_artifacts.store import releases
from scoreline_client.errors import SettingsError
from scoreline_client.fleet import ProcessReport
from scoreline_client.protocol.keys import Keys
from scoreline_client.settings import ClientSettings
from scoreline_training import PublishedVersion, publish, publishing
from scoreline_training.publishing import NEWS_TIMEOUT_S, announce, promote_by_default

pytestmark = pytest.mark.usefixtures("cheap_publishing")

FRAME = pd.DataFrame({"x": np.linspace(-3, 3, 60), "n": np.arange(60)})
LABELS = pd.Series(np.where(FRAME["x"] > 0, "high", "low"), name="side")
NOBODY = "redis://127.0.0.1:1/0"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty store; no Redis answers."""
    monkeypatch.setenv("SCORELINE_REDIS_URL", NOBODY)
    monkeypatch.setenv("SCORELINE_ARTIFACTS", str(tmp_path))
    return Store(tmp_path)


class Follows:
    """A pipeline that answers with what a function makes of the frame."""

    def __init__(self, function: Any) -> None:
        self._function = function

    def predict(self, frame: pd.DataFrame) -> npt.NDArray[Any]:
        return np.asarray(self._function(frame))


def _classifier() -> Any:
    return make_pipeline(FunctionTransformer(np.tanh), LogisticRegression(solver="liblinear")).fit(
        FRAME, LABELS
    )


def _publish(pipeline: Any = None, frame: Any = FRAME, **options: Any) -> PublishedVersion:
    return publish(pipeline or _classifier(), "sides", frame, LABELS[: len(frame)], **options)


def test_a_published_version_is_loaded_and_answers_the_same(store: Store) -> None:
    pipeline = _classifier()
    published = _publish(pipeline)
    assert published.path == store.path("sides", 1)
    scores = load(store, published.name, published.version).score(FRAME)
    np.testing.assert_array_equal(scores.probabilities, pipeline.predict_proba(FRAME))


def test_the_manifest_says_what_it_was_made_of(store: Store) -> None:
    manifest = _publish(metrics={"accuracy": 0.9}, training={"C": 1.0}).manifest
    assert manifest.metrics == {"accuracy": 0.9}
    assert manifest.training["C"] == 1.0
    assert manifest.training["rows"] == 60
    assert manifest.training["step_parameters"]["logisticregression__solver"] == "'liblinear'"
    assert list(manifest.schema.names) == ["x", "n"]
    assert manifest.outputs.classes == ["high", "low"]
    assert {"python", "dill", "scikit-learn", "pandas", "numpy"} <= manifest.libraries.keys()


def test_golden_rows_are_raw_records_with_the_answers_of_training(store: Store) -> None:
    pipeline = _classifier()
    manifest = _publish(pipeline).manifest
    rows = golden.decode(store.read(manifest, GOLDEN))
    assert len(rows) == golden.GOLDEN_ROWS
    here = LoadedVersion.of(pipeline, "sides", schema=manifest.schema)
    here.check_golden_rows(rows, manifest.tolerance)


def test_a_plan_is_proved_for_as_long_as_the_setting_or_the_caller_says(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[float] = []

    def prove_plan(*arguments: Any) -> PlanProof:
        limits.append(arguments[-1])
        return PlanProof(reason="not tried")

    monkeypatch.setattr(plan_proof, "prove_plan", prove_plan)
    monkeypatch.setenv("SCORELINE_PLAN_PROOF_S", "7.5")
    assert PLAN in _publish().manifest.files
    _publish(plan_proof_s=20.0)
    assert limits == [7.5, 20.0]


def test_without_time_for_its_proof_a_version_has_no_plan(store: Store) -> None:
    assert PLAN not in _publish(plan_proof_s=0.0).manifest.files
    assert load(store, "sides", 1).plan is None


def test_a_time_that_is_none_is_refused_and_leaves_nothing(store: Store) -> None:
    with pytest.raises(SettingsError, match="PLAN_PROOF_S"):
        _publish(plan_proof_s=-1.0)
    assert store.models() == []


def test_one_call_is_enough_when_the_likeliest_class_is_the_prediction(store: Store) -> None:
    assert _publish().manifest.outputs.value_from == "probabilities"


def test_both_calls_are_made_when_the_prediction_is_another(store: Store) -> None:
    class Cautious(LogisticRegression):  # type: ignore[misc]
        def predict(self, frame: Any) -> Any:
            return np.where(self.predict_proba(frame)[:, 0] > 0.9, "high", "low")

    published = _publish(Cautious(solver="liblinear").fit(FRAME, LABELS))
    assert published.manifest.outputs.value_from == "predict"


def test_a_pipeline_whose_rows_do_not_touch_is_batchable(store: Store) -> None:
    assert _publish().manifest.batchable


@pytest.mark.parametrize(
    "function",
    [
        lambda frame: frame["x"] - frame["x"].mean(),
        lambda frame: np.arange(len(frame)),
        lambda frame: frame["x"].cumsum(),
    ],
    ids=["centred on its batch", "by place", "running sum"],
)
def test_a_pipeline_whose_answers_depend_on_the_batch_is_not_batchable(
    store: Store, function: Any
) -> None:
    assert not _publish(Follows(function)).manifest.batchable


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_rounding_of_coarse_numbers_is_no_dependence_on_the_batch(store: Store) -> None:
    frame = pd.DataFrame(
        np.random.default_rng(0).normal(size=(300, 60)).astype(np.float32),
        columns=[f"c{at}" for at in range(60)],
    )
    network = make_pipeline(
        StandardScaler(), PCA(20), MLPClassifier((64,), max_iter=30, random_state=0)
    ).fit(frame, frame["c0"] > 0)
    by_type = publish(network, "coarse", frame).manifest
    assert (by_type.batchable, by_type.tolerance) == (True, 1e-5)
    exact = publish(network, "coarse", frame, tolerance=1e-9).manifest
    assert (exact.batchable, exact.tolerance) == (False, 1e-9)


@pytest.mark.parametrize("tolerance", [-1.0, float("nan"), float("inf")])
def test_a_tolerance_that_is_none_is_refused(store: Store, tolerance: float) -> None:
    with pytest.raises(UnsuitableData, match="tolerance is"):
        _publish(tolerance=tolerance)


def test_a_pipeline_that_cannot_score_one_row_alone_is_not_batchable(store: Store) -> None:
    def needs_two(frame: pd.DataFrame) -> Any:
        if len(frame) < 2:
            raise ValueError("one row is not enough")
        return frame["x"]

    assert not _publish(Follows(needs_two)).manifest.batchable


def test_a_lambda_that_uses_a_variable_travels(store: Store) -> None:
    factor = 3.0
    pipeline = make_pipeline(FunctionTransformer(lambda x: x * factor), LinearRegression())
    published = _publish(pipeline.fit(FRAME, FRAME["x"]))
    values = load(store, "sides", published.version).score(FRAME).values
    np.testing.assert_allclose(values, FRAME["x"], atol=1e-9)


def test_missing_values_text_and_dates_of_training_come_back(store: Store) -> None:
    frame = pd.DataFrame(
        {
            "city": ["Bonn", None] * 30,
            "mass": [1.5, np.nan] * 30,
            "group": pd.Categorical(["a", "b"] * 30),
            "seen": pd.date_range("2024-01-01", periods=60),
        }
    )
    pipeline = Follows(
        lambda frame: (
            frame["city"].isna() + frame["mass"].fillna(2) + frame["seen"].dt.day
            + frame["group"].cat.codes
        )
    )  # fmt: skip
    assert _publish(pipeline, frame).manifest.batchable


def test_a_training_row_that_no_caller_could_send_is_no_golden_row(store: Store) -> None:
    frame = pd.DataFrame({"x": [math.inf, *range(59)]})
    manifest = _publish(Follows(lambda frame: frame["x"].clip(0, 1)), frame).manifest
    rows = golden.decode(store.read(manifest, GOLDEN))
    assert rows[0].record != {"x": math.inf}
    assert len(rows) == golden.GOLDEN_ROWS - 1


def test_metrics_and_parameters_are_kept_as_json_has_them(store: Store) -> None:
    metrics = {"a": np.float64(1), 1: (2, np.array([3])), "model": LinearRegression()}
    manifest = _publish(metrics=metrics).manifest
    assert manifest.metrics == {"a": 1.0, "1": [2, [3]], "model": "LinearRegression()"}
    assert store.manifest("sides", 1) == manifest


# Nothing of these appears in the store.


@pytest.mark.parametrize("frame", [FRAME.to_numpy(), FRAME["x"], [[1, 2]], None])
def test_anything_but_a_frame_is_refused(store: Store, frame: Any) -> None:
    with pytest.raises(UnsuitableData, match="give the pandas DataFrame"):
        publish(_classifier(), "sides", frame)
    assert store.models() == []


def test_a_frame_without_rows_is_refused(store: Store) -> None:
    with pytest.raises(UnsuitableData, match="no rows"):
        publish(_classifier(), "sides", FRAME.iloc[:0])
    assert store.models() == []


def test_a_frame_of_other_columns_is_refused(store: Store) -> None:
    with pytest.raises(UnsuitableData, match="cannot score rows of X_train"):
        _publish(frame=FRAME.rename(columns={"x": "z"}))
    assert store.models() == []


def test_a_pipeline_that_was_not_fitted_is_refused(store: Store) -> None:
    with pytest.raises(UnsuitableData, match="fitted"):
        _publish(LogisticRegression(solver="liblinear"))
    assert store.models() == []


def test_a_pipeline_that_cannot_be_pickled_is_refused(store: Store) -> None:
    pipeline = Follows(lambda frame: frame["x"])
    pipeline.open = (number for number in range(3))  # type: ignore[attr-defined]
    with pytest.raises(UnsuitableData, match="cannot be serialised"):
        _publish(pipeline)
    assert store.models() == []


class Forgetful(Follows):
    """Loses itself on the way."""

    def __getstate__(self) -> dict[str, Any]:
        return Follows(lambda frame: frame["x"] + 1).__dict__


def test_a_pipeline_that_answers_otherwise_once_unpickled_is_refused(store: Store) -> None:
    with pytest.raises(DoesNotTravel, match="row 0"):
        _publish(Forgetful(lambda frame: frame["x"]))
    assert store.models() == []


@pytest.mark.parametrize("name", ["Sides", "../sides", ""])
def test_a_name_that_cannot_be_one_is_refused(store: Store, name: str) -> None:
    with pytest.raises(InvalidName):
        publish(_classifier(), name, FRAME)
    assert store.models() == []


@pytest.mark.parametrize("answer", [math.nan, math.inf, None, pd.Timestamp("2024-01-01")], ids=str)
def test_a_pipeline_whose_answers_cannot_be_sent_is_refused(store: Store, answer: Any) -> None:
    pipeline = Follows(lambda frame: np.full(len(frame), answer))
    with pytest.raises(UnsuitableData, match="an answer must be"):
        _publish(pipeline)
    assert store.models() == []


@pytest.mark.parametrize("labels", [[1], iter([1])], ids=["too few", "not countable"])
def test_labels_that_are_not_as_many_as_the_rows_are_refused(store: Store, labels: Any) -> None:
    with pytest.raises(UnsuitableData, match="for the 60 rows of X_train"):
        publish(_classifier(), "sides", FRAME, labels)
    assert store.models() == []


@pytest.mark.parametrize("alias", ["No/Alias", "7"])
def test_an_alias_that_cannot_be_one_is_refused(store: Store, alias: str) -> None:
    with pytest.raises(InvalidName):
        _publish(promote=True, alias=alias)
    assert store.models() == []


def test_a_bad_setting_is_told_before_anything_is_published(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCORELINE_RESULT_TTL_S", "soon")
    with pytest.raises(SettingsError, match="SCORELINE_RESULT_TTL_S"):
        _publish(promote=True)
    assert store.models() == []


# Releases


def _production(store: Store) -> int | None:
    release = releases.current(store, "sides")
    return None if release is None else release.version


def test_nothing_is_released_unasked(store: Store) -> None:
    assert _publish().release is None
    assert _production(store) is None


def test_a_promoted_version_is_released_though_redis_is_away(store: Store) -> None:
    published = _publish(promote=True)
    assert published.release == releases.current(store, "sides")
    assert not published.announced


def test_a_version_that_cannot_be_released_is_published_all_the_same_and_named(
    store: Store,
) -> None:
    (Path(store.root) / "sides").mkdir()
    (Path(store.root) / "sides" / "releases").touch()
    with pytest.raises(NotReleased) as caught:
        _publish(promote=True)
    assert (caught.value.version, caught.value.alias) == (1, "production")
    assert store.versions("sides") == [1]


@pytest.mark.parametrize("url", ["nonsense", "redis://127.0.0.1:1/0?no_such_option=1"])
def test_a_url_that_is_none_is_a_redis_that_is_away(
    store: Store, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("SCORELINE_REDIS_URL", url)
    published = _publish(promote=True)
    assert published.release is not None
    assert not published.announced


def test_a_server_that_says_nothing_does_not_hold_up_publishing(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setenv("SCORELINE_REDIS_URL", f"redis://127.0.0.1:{port}/0")
        start = time.monotonic()
        release = Release(model="sides", alias="production", version=1, sequence=1)
        assert announce(release, store, ClientSettings.from_environment()) == (False, [])
    assert time.monotonic() - start < NEWS_TIMEOUT_S + 1


def test_another_alias_leaves_production_alone(store: Store) -> None:
    _publish(promote=True)
    _publish(promote=True, alias="candidate")
    candidate = releases.current(store, "sides", "candidate")
    assert candidate is not None
    assert (_production(store), candidate.version) == (1, 2)


@pytest.mark.parametrize(("said", "released"), [(None, 1), (False, None)])
def test_the_command_line_decides_where_the_script_does_not(
    store: Store, said: bool | None, released: int | None
) -> None:
    token = promote_by_default.set(True)
    try:
        _publish(promote=said)
    finally:
        promote_by_default.reset(token)
    assert _production(store) == released


@pytest.mark.integration
def test_workers_are_told_of_a_release(
    store: Store, redis_client: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCORELINE_REDIS_URL", redis_url)
    with redis_client.pubsub() as news:
        news.subscribe(Keys("default").releases)
        assert news.get_message(timeout=5) is not None
        assert _publish(promote=True).announced
        message = news.get_message(timeout=5)
    assert message is not None
    assert message["data"] == b"sides"


def test_a_published_version_is_short_in_a_notebook_and_links_to_its_report(store: Store) -> None:
    published = _publish(promote=True, store=store, metrics={"accuracy": 0.75, "<b>": 1})
    assert repr(published) == f"<sides@1, released as production: {published.path}>"
    shown = published._repr_html_()
    assert "<td>accuracy</td><td>0.75</td>" in shown
    assert "<b>" not in shown
    assert isinstance(published.report, Path)
    assert f'<a href="{published.report.as_uri()}">report</a>' in shown
    assert len(repr(replace(published, release=None))) < 200


@pytest.mark.integration
def test_workers_that_read_another_store_are_warned_of(
    store: Store, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCORELINE_REDIS_URL", redis_url)
    worker = ProcessReport(
        name="w/1",
        host="h",
        pid=1,
        started_at=1.0,
        reported_at=1.0,
        store="/srv/store",
        store_id="0" * 64,
    )
    # Not by way of the server: a slow machine publishes for longer than a report is kept.
    monkeypatch.setattr(publishing, "read_reports", lambda *_: [worker])
    (warning,) = _publish(promote=True).warnings
    assert warning.code == "W_OTHER_STORE"
    assert (
        f"/srv/store, and will not serve it; this was released in {store.root}" in warning.message
    )


@pytest.mark.usefixtures("store")
def test_two_versions_answer_the_golden_rows_of_both(store: Store) -> None:
    _publish()
    _publish(
        make_pipeline(StandardScaler(), LogisticRegression(solver="liblinear")).fit(
            FRAME, LABELS[::-1].to_numpy()
        )
    )
    _publish(_classifier(), FRAME)
    same = compare_answers(store, store.manifest("sides", 1), store.manifest("sides", 3))
    assert (same["asked"] > 0, same["rows"], same["not_taken"]) == (True, [], 0)
    other = compare_answers(store, store.manifest("sides", 1), store.manifest("sides", 2))
    assert other["rows"]
    assert {"record", "a", "b"} == set(other["rows"][0])


@pytest.mark.usefixtures("store")
def test_a_column_is_of_the_type_that_the_publisher_gives_it() -> None:
    schema = _publish(schema={"n": "number"}).manifest.schema
    (column,) = (each for each in schema.columns if each.name == "n")
    assert (column.type, column.dtype) == ("number", "float64")


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"m": "number"}, "no column of X_train"),
        ({"n": "float"}, "expected one of integer, number"),
        ({"x": "integer"}, "values of X_train are none"),
        ({"n": "boolean"}, "values of X_train are none"),
    ],
    ids=["no column", "no type", "fractions", "numbers"],
)
def test_a_type_that_does_not_fit_is_refused(schema: dict[str, str], words: str) -> None:
    with pytest.raises(UnsuitableData, match=words):
        _publish(schema=schema)


@pytest.mark.usefixtures("store")
def test_a_type_with_which_the_pipeline_answers_otherwise_is_refused() -> None:
    by_text = FunctionTransformer(lambda frame: frame.assign(n=frame["n"].astype(str).str.len()))
    pipeline = make_pipeline(by_text, LogisticRegression(solver="liblinear")).fit(FRAME, LABELS)
    with pytest.raises(UnsuitableData, match="answers row"):
        _publish(pipeline, schema={"n": "number"})


def test_a_release_that_would_begin_another_log_is_not_made_and_names_the_key(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = Store(store.root, KeyRing(tmp_path / "their keys"))
    first = _publish(promote=True, store=theirs)
    monkeypatch.setenv("SCORELINE_CACHE", str(tmp_path / "cache of another machine"))
    with pytest.raises(NotReleased, match=r"keys trust.*scoreline promote sides 2") as caught:
        _publish(promote=True)
    assert str(theirs.ring.own_fingerprint()) in str(caught.value)
    assert releases.current(theirs, "sides") == first.release
