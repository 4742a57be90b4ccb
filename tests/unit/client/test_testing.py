"""The fake for users' own unit tests: the real code on both sides, no server and no process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import EntryPoint
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from scoreline_client import (
    EmptyRequest,
    JobStatus,
    MissingDependency,
    RecordRejected,
    RequestRefused,
    UnknownModel,
    testing,
)
from scoreline_client.testing import FakeScoreline
from tests.support.models import Classifier


class Threshold(Classifier):
    """Says high to what is over 10, with a probability of 0.75 for its answer."""

    def __init__(self) -> None:
        super().__init__(lambda frame: frame["x"] > 10, ("low", "high"))

    def predict_proba(self, frame: pd.DataFrame) -> npt.NDArray[np.float64]:
        high = np.where(frame["x"] > 10, 0.75, 0.25)
        return np.column_stack([1 - high, high])


class Rejecting:
    """A fitted regressor that gives what a function makes of x, and takes no missing value."""

    def __init__(self, answer: Callable[[Any], Any]) -> None:
        self._answer = answer

    def predict(self, frame: pd.DataFrame) -> npt.NDArray[Any]:
        if frame["x"].isna().any():
            raise ValueError("x is missing")
        return np.asarray(self._answer(frame["x"].to_numpy()))


_MODELS: dict[str, Any] = {
    "word": Rejecting(lambda x: np.where(x > 10, "high", "low")),
    "parity": Rejecting(lambda x: x.astype(np.int64) % 2),
    "share": Rejecting(lambda x: x / 20),
}


@pytest.fixture
def scoreline() -> Iterator[FakeScoreline]:
    with FakeScoreline(models=_MODELS | {"size": Threshold()}) as scoreline:
        yield scoreline


def test_a_pipeline_that_was_passed_in_answers(scoreline: FakeScoreline) -> None:
    prediction = scoreline.client().predict("size", {"x": 11})
    assert (prediction.value, prediction.probabilities) == ("high", {"low": 0.25, "high": 0.75})
    assert (prediction.model, prediction.version) == ("size", 1)


def test_many_records_keep_their_order(scoreline: FakeScoreline) -> None:
    predictions = scoreline.client().predict_many("size", [{"x": n} for n in (1, 20, 3)])
    assert [prediction.value for prediction in predictions] == ["low", "high", "low"]


def test_more_records_than_a_request_holds_keep_their_order(scoreline: FakeScoreline) -> None:
    predictions = scoreline.client().predict_many("size", [{"x": n % 20} for n in range(2500)])
    assert [prediction.value for prediction in predictions] == [
        "high" if n % 20 > 10 else "low" for n in range(2500)
    ]


def test_threads_share_a_client(scoreline: FakeScoreline) -> None:
    client = scoreline.client()
    with ThreadPoolExecutor(8) as pool:
        predictions = list(pool.map(lambda n: client.predict("size", {"x": n}).value, range(21)))
    assert predictions == 11 * ["low"] + 10 * ["high"]


async def test_it_serves_asyncio_too(scoreline: FakeScoreline) -> None:
    async with scoreline.async_client() as client:
        predictions = await asyncio.gather(*(client.predict("size", {"x": n}) for n in (1, 20)))
    assert [prediction.value for prediction in predictions] == ["low", "high"]


def test_an_unknown_model_is_an_error(scoreline: FakeScoreline) -> None:
    with pytest.raises(UnknownModel, match="weight"):
        scoreline.client().predict("weight", {"x": 1})


async def test_a_job_for_an_unknown_model_is_refused_in_the_words_of_predict(
    scoreline: FakeScoreline,
) -> None:
    client = scoreline.client()
    with pytest.raises(UnknownModel, match="did you mean 'parity'") as asked:
        client.predict("parify", {"x": 1})
    for job in (client.submit("parify", [{"x": 1}]), client.submit("parify@3", [{"x": 1}])):
        with pytest.raises(UnknownModel) as submitted:
            job.result()
        assert str(submitted.value) == str(asked.value)
    async with scoreline.async_client() as other:
        awaited = await other.submit("parify", [{"x": 1}])
        with pytest.raises(UnknownModel, match="did you mean 'parity'"):
            await awaited.result()


def test_a_record_that_is_no_mapping_is_refused(scoreline: FakeScoreline) -> None:
    with pytest.raises(RecordRejected):
        scoreline.client().predict("size", ["x"])  # type: ignore[arg-type]


def test_a_job_is_done_and_fetched(scoreline: FakeScoreline) -> None:
    client = scoreline.client()
    job = client.submit("size", [{"x": 1}, {"x": 20}])
    assert [prediction.value for prediction in job.result(timeout=20)] == ["low", "high"]
    assert client.job(job.id).status() is JobStatus.DONE


def test_a_frame_comes_back_with_its_own_index(scoreline: FakeScoreline) -> None:
    frame = pd.DataFrame({"x": [1, 20, 3]}, index=["a", "b", "a"])
    predictions = scoreline.client().predict_frame("size", frame)
    assert list(predictions.index) == ["a", "b", "a"]
    assert list(predictions["prediction"]) == ["low", "high", "low"]
    assert list(predictions["probability_high"]) == [0.25, 0.75, 0.25]
    assert predictions["error"].isna().all()


def test_a_large_frame_comes_back_whole_and_in_order(scoreline: FakeScoreline) -> None:
    frame = pd.DataFrame({"x": np.arange(5000) % 20})
    predictions = scoreline.client().predict_frame("size", frame)
    assert (predictions["prediction"] == np.where(frame["x"] > 10, "high", "low")).all()


@pytest.mark.parametrize("model", ["word", "parity", "share"], ids=["text", "integers", "floats"])
def test_a_slice_without_a_good_row_costs_the_others_nothing(
    scoreline: FakeScoreline, model: str
) -> None:
    x = np.arange(10_000) % 20.0
    x[:2500] = np.nan
    predictions = scoreline.client().predict_frame(model, pd.DataFrame({"x": x}))
    assert predictions["error"].notna().tolist() == [row < 2500 for row in range(10_000)]
    expected = _MODELS[model].predict(pd.DataFrame({"x": x[2500:]}))
    assert predictions["prediction"].iloc[:2500].isna().all()
    assert predictions["prediction"].iloc[2500:].tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("frame", "error", "text"),
    [
        (pd.DataFrame({"x": []}), EmptyRequest, "no rows"),
        (pd.DataFrame([[1, 2]], columns=["x", "x"]), RequestRefused, "'x'"),
    ],
    ids=["empty", "column twice"],
)
def test_a_frame_that_cannot_be_sent_is_refused(
    scoreline: FakeScoreline, frame: pd.DataFrame, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        scoreline.client().predict_frame("size", frame)


@pytest.mark.parametrize(
    "value",
    ["a", 2**70, "\ud800", 1j, object()],
    ids=["another type", "over 64 bits", "half a character", "complex", "any object"],
)
def test_a_column_that_is_not_needed_costs_a_frame_nothing(
    scoreline: FakeScoreline, value: object
) -> None:
    first = "a" if isinstance(value, str) and value != "a" else 1
    frame = pd.DataFrame({"x": [1, 2], "odd": pd.Series([first, value], dtype=object)})
    assert scoreline.client().predict_frame("size", frame)["prediction"].tolist() == ["low"] * 2


def test_a_fake_that_fails_says_why_to_all_who_ask(
    scoreline: FakeScoreline, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A step that is under way when the fault begins or ends still does what it began: wait for the next one.
    is_broken, failed, worked = True, threading.Event(), threading.Event()
    step = scoreline._worker.step

    def fail() -> int:
        if is_broken:
            failed.set()
            raise ZeroDivisionError("by nothing")
        worked.set()
        return step()

    client = scoreline.client()
    monkeypatch.setattr(scoreline._worker, "step", fail)
    assert failed.wait(20)
    for _ in range(2):
        with pytest.raises(RequestRefused, match="ZeroDivisionError: by nothing") as refused:
            client.predict("size", {"x": 1}, timeout=20)
        assert refused.value.code == "E_INTERNAL"
    with pytest.raises(RequestRefused, match="ZeroDivisionError"):
        client.submit("size", [{"x": 1}]).result(timeout=20)
    is_broken = False
    assert worked.wait(20)
    assert client.predict("size", {"x": 11}).value == "high"


def test_a_pipeline_that_does_not_return_does_not_keep_a_fake_from_closing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(testing, "CLOSE_S", 0.1)
    called, ended = threading.Event(), threading.Event()

    def hang(x: Any) -> Any:
        called.set()
        ended.wait(60)
        return x

    scoreline = FakeScoreline(models={"hanging": Rejecting(hang)})
    scoreline.client().submit("hanging", [{"x": 1.0}])
    assert called.wait(20)
    with pytest.raises(TimeoutError, match="a pipeline is still in its call"):
        scoreline.close()
    ended.set()
    scoreline._thread.join(20)


def test_without_the_worker_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = EntryPoint("worker", "package_that_is_not_there:Worker", "scoreline.inprocess")
    monkeypatch.setattr(testing, "entry_points", lambda **_: [broken])
    with pytest.raises(MissingDependency, match=r"scoreline\[worker\]"):
        FakeScoreline()
