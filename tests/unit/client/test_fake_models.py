"""What a FakeScoreline answers for models that it is given: as a worker does that has the published version."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder

from scoreline_artifacts import Store, UnsuitableData
from scoreline_client import (
    Client,
    NoAnswer,
    Prediction,
    QueueFull,
    RecordRejected,
    ServerUnreachable,
    UnknownModel,
    async_client,
)
from scoreline_client.testing import FakeModel, FakeScoreline
from scoreline_client.transport.connection import TransportTimes
from scoreline_client.transport.dispatcher import Transport
from scoreline_training import publish
from tests.support import twins

FRAME = pd.DataFrame({"income": [900.0, 2100.0, 1500.0, 8000.0], "debts": [400, 0, 700, 100]})
REPAID = [0, 1, 0, 1]
RECORD = {"income": 1800.0, "debts": 50}


def _loans() -> Any:
    return make_pipeline(FunctionTransformer(np.log1p), LogisticRegression(solver="liblinear")).fit(
        FRAME, REPAID
    )


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, Client]]:
    """A client of a fake with pipelines, and one of a fake with the store that they were published into."""
    store = Store(tmp_path_factory.mktemp("store"))
    stay, money = twins.classifier(), twins.regressor()
    for alias in ("production", "candidate"):
        publish(money, "money", twins.FRAME, twins.TARGETS, store=store, promote=True, alias=alias)
    publish(stay, "stay", twins.FRAME, twins.LABELS, store=store, promote=True)
    models = {
        "stay": FakeModel(stay, twins.FRAME, twins.LABELS),
        "money": FakeModel(money, twins.FRAME, twins.TARGETS),
    }
    with FakeScoreline(models=models) as fake, FakeScoreline(store=str(store.root)) as service:
        fake.add("money", models["money"], alias="candidate")
        yield fake.client(), service.client()


@pytest.mark.parametrize("asked", list(twins.CALLS))
def test_a_model_with_its_frame_answers_as_the_published_version(
    pair: tuple[Client, Client], tmp_path: Path, asked: str
) -> None:
    fake, service = (
        twins.outcome(twins.CALLS[asked], client, tmp_path / name)
        for client, name in zip(pair, ("fake", "service"), strict=True)
    )
    assert fake == service


def test_a_pipeline_that_was_fitted_on_a_frame_has_its_columns() -> None:
    with FakeScoreline(models={"loans": _loans()}) as scoreline:
        client = scoreline.client()
        assert client.predict("loans", {"colour": "red", "debts": 50, "income": 1800.0}).value == 1
        with pytest.raises(RecordRejected) as wrong:
            client.predict("loans", RECORD | {"income": "much"})
        assert (wrong.value.code, wrong.value.column) == ("E_TYPE", "income")
        with pytest.raises(RecordRejected) as missing:
            client.predict("loans", {"debts": 50})
        assert (missing.value.code, missing.value.column) == ("E_MISSING_COLUMN", "income")
        with pytest.raises(RecordRejected) as empty:
            client.predict("loans", RECORD | {"debts": None})
        assert (empty.value.code, empty.value.column) == ("E_NULL", "debts")


def test_a_pipeline_that_was_fitted_on_a_frame_scores_files(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("debts,id,income\n50,a,1800\n50,b,much\n")
    with FakeScoreline(models={"loans": _loans()}) as scoreline:
        scoreline.client().score_file("loans", tmp_path / "in.csv", tmp_path / "out.csv")
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[0] == "debts,id,income,prediction,probability_0,probability_1,error"
    assert lines[1].startswith("50,a,1800,1,")
    assert "E_TYPE" in lines[2]


_TEXTS = pd.DataFrame(
    {"x": [1.0, 2.0, 3.0], "city": ["Bonn", "Kiel", "Bonn"], "id": ["a", "b", "c"]}
)
_LONG = pd.DataFrame({"text": ["good day", "bad night", "good night"]})


@pytest.mark.parametrize(
    ("pipeline", "frame", "good", "wrong"),
    [
        (
            make_pipeline(
                make_column_transformer((OneHotEncoder(), ["city"]), ("passthrough", ["x"])),
                LogisticRegression(solver="liblinear"),
            ),
            _TEXTS,
            {"x": 1.5, "city": "Kiel", "id": 7},
            {"city": 3},
        ),
        (
            make_pipeline(
                make_column_transformer(
                    (
                        make_pipeline(SimpleImputer(strategy="most_frequent"), OrdinalEncoder()),
                        ["city"],
                    ),
                    ("passthrough", ["x"]),
                ),
                LogisticRegression(solver="liblinear"),
            ),
            _TEXTS,
            {"x": 1.5, "city": None},
            {"x": "much"},
        ),
        (
            make_pipeline(
                make_column_transformer((CountVectorizer(), "text")),
                LogisticRegression(solver="liblinear"),
            ),
            _LONG,
            {"text": "a good day"},
            {"text": 3},
        ),
        (
            make_pipeline(
                FunctionTransformer(lambda frame: frame["city"].str.len().to_frame()),
                LogisticRegression(solver="liblinear"),
            ),
            _TEXTS[["city"]],
            {"city": "Ulm"},
            {"city": 3},
        ),
        (HistGradientBoostingClassifier(), _TEXTS[["x"]], {"x": None}, {"x": "much"}),
    ],
    ids=["encoder", "imputer before an encoder", "words", "text by its methods", "trees"],
)
def test_the_types_of_columns_are_found_out_by_asking_the_pipeline(
    pipeline: Any, frame: pd.DataFrame, good: dict[str, Any], wrong: dict[str, Any]
) -> None:
    pipeline.fit(frame, [0, 1, 0])
    with FakeScoreline(models={"m": pipeline}) as scoreline:
        client = scoreline.client()
        assert client.predict("m", good).error is None
        with pytest.raises(RecordRejected) as rejected:
            client.predict("m", good | wrong)
        assert (rejected.value.code, rejected.value.column) == ("E_TYPE", next(iter(wrong)))


def test_a_pipeline_that_takes_anything_is_given_records_as_they_are(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def looks_at_nothing(frame: pd.DataFrame) -> Any:
        return np.ones((len(frame), len(frame[["x", "city"]].columns)))

    pipeline = make_pipeline(FunctionTransformer(looks_at_nothing), DummyClassifier())
    pipeline.fit(_TEXTS[["x", "city"]], [0, 1, 0])
    with caplog.at_level(logging.WARNING), FakeScoreline(models={"m": pipeline}) as scoreline:
        assert scoreline.client().predict("m", {"x": "a", "city": 3}).value == 0
    assert "give the training frame as well" in caplog.text


def test_a_frame_that_is_not_that_of_the_pipeline_is_refused_at_once() -> None:
    with pytest.raises(UnsuitableData, match="complex128"):
        FakeScoreline(models={"m": FakeModel(_loans(), FRAME.astype({"debts": complex}))})


def test_versions_and_aliases_are_as_in_a_store() -> None:
    low, high = (
        DummyClassifier(strategy="constant", constant=n).fit(FRAME, REPAID) for n in (0, 1)
    )
    with FakeScoreline(models={"loans": FakeModel(low, FRAME)}) as scoreline:
        client = scoreline.client()

        def asked(ref: str) -> tuple[Any, int]:
            answer: Prediction = client.predict(ref, RECORD)
            return answer.value, answer.version

        assert scoreline.add("loans", FakeModel(high, FRAME), alias="candidate") == 2
        assert asked("loans") == (0, 1)
        assert asked("loans@candidate") == asked("loans@2") == (1, 2)
        scoreline.promote("loans", 2)
        assert asked("loans") == (1, 2)
        assert asked("loans@1") == (0, 1)
        assert scoreline.add("loans", low, alias=None, version=7) == 7
        assert asked("loans") == (1, 2)
        with pytest.raises(UnknownModel, match="loans"):
            asked("loans@3")
        with pytest.raises(
            ValueError, match="version is 3; expected one of the versions of 'loans'"
        ):
            scoreline.promote("loans", 3)


def test_a_server_that_is_down_is_unreachable_and_back_afterwards() -> None:
    with FakeScoreline(models={"loans": _loans()}) as scoreline:
        client = scoreline.client()
        client.predict("loans", RECORD)
        with scoreline.down(), pytest.raises(ServerUnreachable):
            client.predict("loans", RECORD, timeout=0.3)
        assert client.predict("loans", RECORD).value == 1
        with scoreline.down(), pytest.raises(ServerUnreachable):
            scoreline.client().submit("loans", [RECORD], timeout=0.3)


def test_a_server_that_is_down_at_first_is_given_up_early_as_a_real_one_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quick = TransportTimes(first_contact_s=0.1)
    monkeypatch.setattr(async_client, "Transport", partial(Transport, times=quick))
    with FakeScoreline(models={"loans": _loans()}) as scoreline:
        with scoreline.down(), pytest.raises(ServerUnreachable):
            scoreline.client().predict("loans", RECORD, timeout=3600)
        used = scoreline.client()
        used.predict("loans", RECORD)
        with scoreline.down(), pytest.raises(ServerUnreachable):
            used.predict("loans", RECORD, timeout=0.3)


def test_a_full_server_takes_no_request() -> None:
    with FakeScoreline(models={"loans": _loans()}) as scoreline:
        client = scoreline.client()
        with scoreline.full():
            with pytest.raises(QueueFull) as full:
                client.predict("loans", RECORD)
            assert full.value.retry_after_s > 0
            with pytest.raises(QueueFull):
                client.submit("loans", [RECORD])
        assert client.predict("loans", RECORD).value == 1


def test_without_workers_nobody_answers_and_what_waits_is_answered_later() -> None:
    with FakeScoreline(models={"loans": _loans()}) as scoreline:
        client = scoreline.client()
        with scoreline.without_workers():
            with pytest.raises(NoAnswer, match="no worker serves"):
                client.predict("loans", RECORD, timeout=0.1)
            job = client.submit("loans", [RECORD])
            assert job.status().value == "queued"
        assert job.result(timeout=20)[0].value == 1


def test_a_slow_worker_answers_who_waits_long_enough() -> None:
    with FakeScoreline(models={"loans": _loans()}) as scoreline:
        client = scoreline.client()
        with scoreline.slow(0.5):
            with pytest.raises(NoAnswer, match="1 worker process serves"):
                client.predict("loans", RECORD, timeout=0.05)
            assert client.predict("loans", RECORD, timeout=20).value == 1
