"""Requests that wait: put into the online lane at once, without a caller, and watched as they go."""

from __future__ import annotations

import time
from typing import Any

import orjson
from redis import Redis

from benchmarks.stage import QUEUE
from scoreline_client.protocol.keys import GROUP, Keys, Lane
from scoreline_client.protocol.messages import Request

AT_ONCE = 10_000
REPLACED_AT_ONCE = 1_000
BODIES = 100
EXPIRES_MS = 3_600_000
GIVE_UP_S = 120.0
LOOK_EVERY_S = 0.0005
# Adds ARGV[1] entries, numbered from ARGV[2] on: their fields are ARGV[5..], of which the one at
# ARGV[3] is the id; the body follows after the fields' ARGV[4] place, one of all the others in turn.
_FILL = """
local fields = {}
local last = #ARGV - tonumber(ARGV[4])
for place = 5, last do fields[#fields + 1] = ARGV[place] end
for number = ARGV[2], ARGV[2] + ARGV[1] - 1 do
  fields[ARGV[3] + 0] = string.format('%032x', number)
  redis.call('XADD', KEYS[1], '*', 'body', ARGV[last + 1 + number % ARGV[4]], unpack(fields))
end
"""


class Backlog:
    """The online lane, filled and emptied by hand."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._lane = Keys(QUEUE).lane(Lane.ONLINE)
        self._fill = redis.register_script(_FILL)
        self._number = 0

    def put(self, model: str, count: int, records: list[dict[str, Any]]) -> None:
        """Let so many requests appear in the lane, all in the same moment; what was there is gone."""
        # Made aside, where no worker sees them yet.
        aside = f"{self._lane}:aside-{self._number}"
        self._redis.xgroup_create(aside, GROUP, id="0", mkstream=True)
        for done in range(0, count, AT_ONCE):
            self._add(aside, model, min(AT_ONCE, count - done), records)
        self._redis.rename(aside, self._lane)

    def waiting(self) -> int:
        """Requests that have no answer yet."""
        return int(self._redis.xlen(self._lane))

    def drop(self) -> None:
        """Forget what still waits."""
        self._redis.xtrim(self._lane, maxlen=0, approximate=False)

    def rate(self, model: str, answers: int, records: list[dict[str, Any]]) -> float:
        """Answers a second while as many wait all the time: those that are answered are replaced.

        From the first answers on, since how long those had taken is not known.
        """
        size = self.waiting()
        first = size - self._fall_below(size)
        begun = time.perf_counter()
        answered, added = first, 0
        while answered - first < answers:
            while answered - added >= REPLACED_AT_ONCE:
                self._add(self._lane, model, REPLACED_AT_ONCE, records)
                added += REPLACED_AT_ONCE
            answered = size + added - self._fall_below(size + added - answered)
        return (answered - first) / (time.perf_counter() - begun)

    def rate_for(self, seconds: float) -> float:
        """Answers a second over a while."""
        before, begun = self.waiting(), time.perf_counter()
        time.sleep(seconds)
        after = self.waiting()
        if after == 0:
            raise AssertionError("the backlog was too small for the time")
        return (before - after) / (time.perf_counter() - begun)

    def _add(self, stream: str, model: str, count: int, records: list[dict[str, Any]]) -> None:
        fixed, id_place = _fields(model)
        bodies = [orjson.dumps([record]) for record in records[:BODIES]]
        self._fill(
            keys=[stream], args=[count, self._number, id_place, len(bodies), *fixed, *bodies]
        )
        self._number += count

    def _fall_below(self, count: int) -> int:
        deadline = time.monotonic() + GIVE_UP_S
        while (now := self.waiting()) >= count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{count} requests wait, and nobody answers them")
            time.sleep(LOOK_EVERY_S)
        return now


def _fields(model: str) -> tuple[list[Any], int]:
    """A request's fields but its body, and at which place, from 1 on, its id stands."""
    mark = "f" * 32
    encoded = list(Request(id=mark, model=model, body=b"", expires_ms=EXPIRES_MS).encode())
    pairs = [list(pair) for pair in zip(encoded[::2], encoded[1::2], strict=True)]
    kept = [one for pair in pairs if _text(pair[0]) != "body" for one in pair]
    return kept, [_text(one) for one in kept].index(mark) + 1


def _text(field: Any) -> str:
    return field.decode() if isinstance(field, bytes) else str(field)
