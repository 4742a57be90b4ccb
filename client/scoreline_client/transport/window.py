"""Many requests on their way, few at a time, and their answers in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from typing import Any, TypeVar

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")


async def in_order(
    items: Iterator[_Item],
    ask: Callable[[_Item], Coroutine[Any, Any, _Answer]],
    room: Callable[[], int],
) -> AsyncGenerator[tuple[_Item, _Answer]]:
    """Ask for each item, at most `room()` at a time, and give it with its answer, in order.

    Items are made in a thread, one at a time and not before there is room, so that neither they nor
    answers that came early pile up.
    """
    waiting: deque[tuple[_Item, asyncio.Task[_Answer]]] = deque()
    try:
        more = True
        while more or waiting:
            while more and len(waiting) < max(1, room()):
                item = await asyncio.to_thread(next, items, None)
                more = item is not None
                if item is not None:
                    waiting.append((item, asyncio.create_task(ask(item))))
            if waiting:
                first, task = waiting.popleft()
                try:
                    answer = await task
                finally:
                    task.cancel()
                yield first, answer
    finally:
        for _, task in waiting:
            task.cancel()
        await asyncio.gather(*(task for _, task in waiting), return_exceptions=True)


async def to_the_end(work: Callable[..., _Answer], *arguments: Any) -> _Answer:
    """Do work in a thread; who is cancelled meanwhile waits for it to be done."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
