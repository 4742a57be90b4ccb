"""What a call of `predict` costs its own program, counted: the server and the workers are left out."""

from __future__ import annotations

import asyncio
import sys
from types import FrameType
from typing import Any

import pytest

from scoreline_client import AsyncClient
from scoreline_client.protocol.json_records import gc_paused
from scoreline_client.protocol.messages import Answer, Request

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
