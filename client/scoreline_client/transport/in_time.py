"""Lists and frames in several requests: all answered by one version, and in only so much time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from itertools import chain
from typing import Generic, TypeVar

from scoreline_client.errors import NoAnswer
from scoreline_client.protocol.json_records import raise_refusal
from scoreline_client.protocol.keys import Lane
from scoreline_client.protocol.messages import Answer, ModelRef, Request
from scoreline_client.transport.dispatcher import Transport
from scoreline_client.transport.lane import BulkJob
from scoreline_client.transport.window import in_order

_Item = TypeVar("_Item")

Build = Callable[[str, _Item, str], Request]
"""Makes the request for a reference and an item, given the id of its job, or ""."""


async def answers_in_time(
    transport: Transport, ref: str, items: Iterator[_Item], build: Build[_Item], *, timeout_s: float
) -> AsyncGenerator[tuple[_Item, Answer]]:
    """Every item with its answer, in order, all of the version that answered the first.

    The others do not wait to be told which one that is: nearly always it is the one that they meet, too.
    What met another one, while a release was on its way, is asked again.

    Raises:
        RequestRefused: an item as a whole cannot be scored.
        NoAnswer, QueueFull, ServerUnreachable: as for `predict`.
    """
    first = next(items)
    asking = _Asking(transport, ref, build, first, timeout_s)
    try:
        async with BulkJob(transport) as job:

            async def ask(item: _Item) -> Answer:
                return await (asking.first() if item is first else asking.other(item, job))

            # The first one is there beside the job's own.
            pairs = in_order(chain([first], items), ask, lambda: 1 + job.window)
            async with aclosing(pairs) as answered:
                async for pair in answered:
                    yield pair
    finally:
        await asking.end()


class _Asking(Generic[_Item]):
    """Asks for items until the time is up: for the first one while its job begins, of which it is no
    part."""

    def __init__(
        self, transport: Transport, ref: str, build: Build[_Item], first: _Item, timeout_s: float
    ) -> None:
        self._transport = transport
        self._ref = ref
        self._build = build
        self._timeout_s = timeout_s
        self._deadline = asyncio.get_running_loop().time() + timeout_s
        self._first = asyncio.create_task(self._ask_alone(first))

    async def first(self) -> Answer:
        """The first item's answer."""
        # Everybody's: whoever is cancelled while he waits for it does not take it from the others.
        return await asyncio.shield(self._first)

    async def other(self, item: _Item, job: BulkJob) -> Answer:
        """The answer to another one, of the same version."""
        ref = await self._pinned() if self._first.done() else self._ref
        answer = await self._ask(item, job, ref)
        if answer.version != (await self.first()).version:
            answer = await self._ask(item, job, await self._pinned())
        return answer

    async def end(self) -> None:
        """Forget the first item, if it has no answer yet."""
        self._first.cancel()
        await asyncio.gather(self._first, return_exceptions=True)

    async def _pinned(self) -> str:
        return f"{ModelRef.parse(self._ref).name}@{(await self.first()).version}"

    async def _ask_alone(self, item: _Item) -> Answer:
        request = self._build(self._ref, item, "")
        answer = await self._transport.ask(request, Lane.BULK, self._timeout_s)
        raise_refusal(answer)
        return answer

    async def _ask(self, item: _Item, job: BulkJob, ref: str) -> Answer:
        try:
            async with asyncio.timeout_at(self._deadline):
                return await job.ask(lambda job_id: self._build(ref, item, job_id))
        except NoAnswer:
            raise
        except TimeoutError:
            raise NoAnswer(job.id, self._timeout_s, await self._transport.diagnose()) from None
