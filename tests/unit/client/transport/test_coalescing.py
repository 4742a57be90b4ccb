"""Who shares a request, and what a call of `predict` costs its own program, counted: there is no server."""

from __future__ import annotations

import asyncio
import sys
from types import FrameType
from typing import Any

import pytest

from scoreline_client import AsyncClient
from scoreline_client.protocol.json_records import gc_paused
from scoreline_client.protocol.messages import Answer, Request
from scoreline_client.transport import coalescing
from tests.conftest import WAIT_S

PYTHON_CALLS = 32
"""Of one caller among many, asyncio's own among them. Every further one is paid by each record of everybody."""


async def _python_calls(callers: int, monkeypatch: pytest.MonkeyPatch) -> int:
    loop = asyncio.get_running_loop()
    client = AsyncClient("redis://127.0.0.1:1/0")

    def answered(request: Request, *_: Any, **__: Any) -> asyncio.Future[Answer]:
        count = request.body.count(b"{")
        answer = Answer(
            id=request.id,
            model="pima",
            version=1,
            values=[True] * count,
            classes=[False, True],
            probabilities=[[0.5, 0.5]] * count,
        )
        sent: asyncio.Future[Answer] = loop.create_future()
        loop.call_soon(sent.set_result, answer)
        return sent

    monkeypatch.setattr(client.transport, "send", answered)
    monkeypatch.setattr(client.transport, "flush", lambda: None)
    record = {"mass": 33.6, "age": 50}
    asked = [asyncio.create_task(client.predict("pima", record)) for _ in range(callers)]
    calls = 0

    def count(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event == "call"

    # What earlier tests have left is not collected meanwhile, since its finalizers would count.
    with gc_paused():
        sys.setprofile(count)
        try:
            answers = await asyncio.gather(*asked)
        finally:
            sys.setprofile(None)
    assert [answer.value for answer in answers] == [True] * callers
    await client.close()
    return calls


def test_a_caller_among_many_costs_few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = (asyncio.run(_python_calls(callers, monkeypatch)) for callers in (32, 64))
    assert (many - few) / 32 <= PYTHON_CALLS


class _Sent:
    """A transport's `send` that answers when it is told to."""

    def __init__(self, client: AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
        self.requests: list[tuple[Request, asyncio.Future[Answer]]] = []
        self.has_three = asyncio.Event()
        monkeypatch.setattr(client.transport, "send", self._send)
        monkeypatch.setattr(client.transport, "flush", lambda: None)
        monkeypatch.setattr(coalescing, "HELD_S", 3600.0)

    def _send(self, request: Request, *_: Any, **__: Any) -> asyncio.Future[Answer]:
        sent: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.requests.append((request, sent))
        if len(self.requests) == 3:
            self.has_three.set()
        return sent

    @property
    def sizes(self) -> list[int]:
        return [request.body.count(b"{") for request, _ in self.requests]

    def answer(self, index: int) -> None:
        request, sent = self.requests[index]
        values = [1.0] * request.body.count(b"{")
        sent.set_result(Answer(id=request.id, model="m", version=1, values=values))


async def _turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_what_comes_while_two_requests_are_on_their_way_shares_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = AsyncClient("redis://127.0.0.1:1/0")
    sent = _Sent(client, monkeypatch)

    async def ask(times: int) -> None:
        for _ in range(times):
            assert (await client.predict("m", {"x": 1})).value == 1.0

    asked = []
    for times in (1, 2, 1, 1, 1):
        asked.append(asyncio.create_task(ask(times)))
        await _turns()
    assert sent.sizes == [1, 1]  # nobody is held as long as few are on their way
    sent.answer(1)
    await _turns(5)
    assert sent.sizes == [1, 1, 4]  # the three, and the next record of who was answered
    sent.answer(0)
    sent.answer(2)
    await asyncio.gather(*asked)
    await client.close()


async def test_what_is_held_is_sent_soon_whatever_becomes_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = AsyncClient("redis://127.0.0.1:1/0")
    sent = _Sent(client, monkeypatch)
    monkeypatch.setattr(coalescing, "HELD_S", 0.001)
    asked = []
    for _ in range(3):
        asked.append(asyncio.create_task(client.predict("m", {"x": 1})))
        await _turns()
    await sent.has_three.wait()
    for index in range(3):
        sent.answer(index)
    await asyncio.gather(*asked)
    await client.close()


async def test_who_is_held_when_the_client_closes_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = AsyncClient("redis://127.0.0.1:1/0")
    sent = _Sent(client, monkeypatch)
    asked = []
    for _ in range(3):
        asked.append(asyncio.create_task(client.predict("m", {"x": 1})))
        await _turns()
    await client.close()
    assert len(sent.requests) == 2
    with pytest.raises(asyncio.CancelledError):
        await asked[2]
    for index in range(2):
        sent.answer(index)
    await asyncio.gather(*asked[:2])


async def test_answers_that_come_together_wake_the_callers_of_one_request_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = AsyncClient("redis://127.0.0.1:1/0")
    sent = _Sent(client, monkeypatch)
    woken: list[int] = []

    async def ask(number: int) -> None:
        await client.predict("m", {"x": number})
        woken.append(number)

    asked = [asyncio.create_task(ask(number)) for number in range(8 * 64)]
    await _turns()
    assert sent.sizes == [64] * 8
    for index in range(8):
        sent.answer(index)
    while len(woken) < len(asked):
        before = len(woken)
        await asyncio.sleep(0)
        assert len(woken) - before <= 64
    assert woken == sorted(woken)
    await client.close()


async def test_answers_that_have_come_are_handed_out_when_the_client_closes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = AsyncClient("redis://127.0.0.1:1/0")
    sent = _Sent(client, monkeypatch)
    asked = [asyncio.create_task(client.predict("m", {"x": n})) for n in range(3 * 64)]
    await _turns()
    for index in range(3):
        sent.answer(index)
    await asyncio.sleep(0)
    await client.close()
    answers = await asyncio.gather(*asked)
    assert [answer.value for answer in answers] == [1.0] * len(asked)


@pytest.mark.parametrize("end", ["it is answered", "it takes long", "its callers have little time"])
async def test_with_many_models_records_wait_for_the_answer_to_others_of_their_own(
    monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """Each would travel alone otherwise: hardly two callers of a model come within HELD_S."""
    client = AsyncClient("redis://127.0.0.1:1/0")
    sent = _Sent(client, monkeypatch)
    monkeypatch.setattr(coalescing, "HELD_S", 0.001)
    monkeypatch.setattr(coalescing, "LONGEST_HELD_S", 0.01 if end == "it takes long" else 3600.0)
    timeout = WAIT_S if end == "its callers have little time" else 7200.0

    def ask(model: str) -> asyncio.Task[Any]:
        return asyncio.create_task(client.predict(model, {"x": 1}, timeout=timeout))

    async def until(count: int) -> str:
        async with asyncio.timeout(WAIT_S):
            while len(sent.requests) < count:  # noqa: ASYNC110 - sending sets no event
                await asyncio.sleep(0.001)
        assert len(sent.requests) == count
        return sent.requests[-1][0].model

    models = [f"m{number}" for number in range(coalescing.MANY)]
    asked = [ask(model) for model in models]
    await until(len(models))
    asked += [ask("m7"), ask("m7"), ask("m7")]
    if end == "it is answered":
        asked.append(ask("other"))
        assert await until(len(models) + 1) == "other"
        sent.answer(7)
    assert await until(len(sent.requests) + 1) == "m7"
    assert sent.sizes[-1] == 3
    for index in range(len(sent.requests)):
        if not (end == "it is answered" and index == 7):
            sent.answer(index)
    await asyncio.gather(*asked)
    await client.close()
