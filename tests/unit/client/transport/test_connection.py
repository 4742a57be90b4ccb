"""When a connection counts as dead: nothing has moved on it while a reply is due."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from scoreline_client.transport.connection import _Patience


def connection(to_send: list[int], received: list[int]) -> Any:
    """One that has so many bytes to send, and so many received, at each look; the last numbers stay."""

    def each(numbers: list[int]) -> Any:
        return lambda: numbers.pop(0) if len(numbers) > 1 else numbers[0]

    return SimpleNamespace(
        _writer=SimpleNamespace(transport=SimpleNamespace(get_write_buffer_size=each(to_send))),
        _parser=SimpleNamespace(_reader=SimpleNamespace(len=each(received))),
    )


@pytest.mark.parametrize(
    ("to_send", "received", "looks"),
    [
        ([0], [0], 2),
        ([0], [700], 2),  # what is left in the buffer of replies that were read
        ([0, 9, 5, 0], [0], 5),  # a large command leaves
        ([0], [0, 10, 20, 30], 5),  # a large reply comes
    ],
    ids=["nothing", "left over", "sends", "receives"],
)
async def test_silence_is_that_nothing_has_moved_since_the_last_look(
    to_send: list[int], received: list[int], looks: int
) -> None:
    patience = _Patience(connection(to_send, received), 0.01, 0.0, set())
    seen = 1  # when it was made
    look = patience._read_progress

    def counted() -> tuple[int, int]:
        nonlocal seen
        seen += 1
        return look()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Patience, "_read_progress", lambda _: counted())
        with pytest.raises(TimeoutError):
            async with patience:
                await asyncio.sleep(20)
    assert seen == looks


async def test_a_reply_that_is_coming_is_no_silence_when_another_connection_is_given_up() -> None:
    """Where the network is slow, a large one comes for longer than a dead connection is waited for."""
    one = connection([0], [0, 10, 20])
    one.heard_at = -9.0
    patience = _Patience(one, 60.0, 0.0, set())
    assert not patience.is_silent_since(-5.0)  # it has begun to come
    patience._timer.cancel()
    patience._check()
    patience._timer.cancel()
    assert not patience.is_silent_since(-5.0)  # as it was seen to at the last look


async def test_a_connection_on_which_nothing_comes_is_silent_and_one_that_has_replied_since_is_not() -> (
    None
):
    one = connection([0], [700])
    patience = _Patience(one, 60.0, 0.0, set())
    patience._timer.cancel()
    one.heard_at = -9.0
    assert patience.is_silent_since(-5.0)
    one.heard_at = -1.0
    assert not patience.is_silent_since(-5.0)
