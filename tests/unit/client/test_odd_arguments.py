"""Whatever is given for an argument of the client, it is done or refused by an error of Scoreline's."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scoreline_client import (
    AsyncClient,
    AsyncJob,
    Client,
    Job,
    RequestOptions,
    ScorelineError,
)
from scoreline_client.testing import FakeScoreline
from tests.support.models import Classifier

TIMES = settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
ODD = st.one_of(
    st.sampled_from(
        [
            None, True, 5, -1, 0, 10**30, 2.5, float("nan"), float("inf"), "", "hello", "a b@c", "\ud800", "x\x00y",
            b"bytes", [], {}, (), [5], ["x"], [[]], {"a": 1}, {5: None}, {"coerce": True}, {"coerce": 5}, {"nope": 1},
            set(), object(), int, lambda: None, timedelta(1), Path("x"), pd.DataFrame(), pd.Series([1]), pd.NA,
        ]
    ),
    st.text(max_size=5), st.integers(), st.floats(), st.binary(max_size=5),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=3), st.none(), max_size=2),
)  # fmt: skip
RECORD = {"x": 1}


@pytest.fixture(scope="module")
def scoreline() -> Iterator[FakeScoreline]:
    model = Classifier(lambda frame: frame["x"] > 10, ("low", "high"))
    with FakeScoreline(models={"size": model}) as scoreline:
        yield scoreline


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "in.csv"
    path.write_text("x\n1\n")
    return path


def _good(source: Path) -> dict[str, Any]:
    """A value of each argument, by name."""
    return {
        "model": "size", "record": RECORD, "records": [RECORD], "frame": pd.DataFrame([RECORD]), "job_id": "0" * 32,
        "source": source, "target": source.with_name("out.csv"), "letter_id": "1-0", "letter": None, "timeout": 5.0,
    }  # fmt: skip


def _arguments(kind: type, *without: str) -> list[tuple[str, str]]:
    """Each argument of the public methods of a class."""
    return [
        (name, argument)
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_") and name not in without
        for argument in list(inspect.signature(method).parameters)[1:]
    ]


INTERNAL = ("run", "async_job", "request", "begin_anew", "scored_parts", "score_csv")


def _call(method: Callable[..., Any], source: Path, argument: str, value: Any) -> Any:
    given = _good(source)
    needed = {
        name: given[name]
        for name, one in inspect.signature(method).parameters.items()
        if one.default is one.empty
    }
    return method(**needed | {argument: value})


@pytest.mark.parametrize(("name", "argument"), _arguments(Client, *INTERNAL))
@TIMES
@given(value=ODD)
def test_a_client_takes_an_argument_or_refuses_it(
    scoreline: FakeScoreline,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    argument: str,
    value: Any,
) -> None:
    monkeypatch.chdir(source.parent)
    client = scoreline.client()
    try:
        done = _call(getattr(client, name), source, argument, value)
        if name == "score_rows":
            list(done)
    except ScorelineError:
        pass
    finally:
        client.close()


@pytest.mark.parametrize(("name", "argument"), _arguments(AsyncClient, *INTERNAL))
@TIMES
@given(value=ODD)
def test_an_asynchronous_client_takes_an_argument_or_refuses_it(
    scoreline: FakeScoreline,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    argument: str,
    value: Any,
) -> None:
    monkeypatch.chdir(source.parent)

    async def call() -> None:
        async with scoreline.async_client() as client:
            done = _call(getattr(client, name), source, argument, value)
            if name == "score_rows":
                async for _ in done:
                    pass
            elif inspect.isawaitable(done):
                await done

    with suppress(ScorelineError):
        asyncio.run(call())


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("argument", ["redis_url", "queue", "settings", "connection"])
@TIMES
@given(value=ODD)
def test_a_client_is_made_or_refused(kind: Any, argument: str, value: Any) -> None:
    with suppress(ScorelineError):
        repr(kind(**{argument: value}))


@pytest.mark.parametrize("kind", [Job, AsyncJob])
@pytest.mark.parametrize("name", ["status", "result", "cancel"])
@TIMES
@given(value=ODD)
def test_a_job_takes_a_timeout_or_refuses_it(
    scoreline: FakeScoreline, kind: type, name: str, value: Any
) -> None:
    client = scoreline.client()
    job = client.submit("size", [RECORD])
    try:
        if kind is Job:
            getattr(job, name)(value)
        else:
            client.run(getattr(client.async_job(job.id), name)(value))
    except ScorelineError:
        pass
    finally:
        client.close()


@pytest.mark.parametrize(("name", "argument"), _arguments(FakeScoreline, "client", "close"))
@TIMES
@given(value=ODD)
def test_a_fake_takes_an_argument_or_refuses_it(name: str, argument: str, value: Any) -> None:
    model = Classifier(lambda frame: frame["x"] > 10, ("low", "high"))
    good = {"model": "size", "pipeline": model, "version": 1, "alias": "production"}
    good |= {"seconds": 0.0}
    with FakeScoreline(models={"size": model}) as scoreline:
        method = getattr(scoreline, name)
        needed = {each: good[each] for each in inspect.signature(method).parameters if each in good}
        try:
            done = method(**needed | {argument: value})
            if name == "slow":
                with done:
                    pass
        except ScorelineError:
            pass


@pytest.mark.parametrize("argument", ["models", "store"])
@TIMES
@given(value=ODD)
def test_a_fake_is_made_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argument: str, value: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    with suppress(ScorelineError):
        FakeScoreline(**{argument: value}).close()


def test_options_may_be_a_mapping_or_none(scoreline: FakeScoreline) -> None:
    client = scoreline.client()
    for asked in (None, {}, {"coerce": True}, RequestOptions(coerce=True)):
        assert client.predict("size", {"x": 20}, options=asked).value == "high"
        assert client.predict_many("size", [{"x": 20}], options=asked)[0].value == "high"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda client: client.predict("size", RECORD, options={"coerc": True}), "options is 'coerc'; expected one of coerce,"),
        (lambda client: client.predict("size", RECORD, options={"unseen": 5}), "unseen is 5; expected ignore, warn or error"),
        (lambda client: client.predict("size", RECORD, options=5), "expected a RequestOptions, or a mapping"),
        (lambda client: client.job("hello"), "32 small hexadecimal digits"),
        (lambda client: client.predict_frame("size", 5), "frame must be a pandas DataFrame, not int"),
        (lambda client: client.score_file("size", "in.csv", ""), "target is ''; expected"),
    ],
)  # fmt: skip
def test_what_is_expected_is_said(
    scoreline: FakeScoreline, call: Callable[[Client], Any], words: str
) -> None:
    with pytest.raises(ScorelineError, match=words):
        call(scoreline.client())
