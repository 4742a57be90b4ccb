"""The history of a queue: how old the oldest waiting request was, and how many waited, by lane.

The main process of each worker asks the server to note a point with its report, and the first one of a step does:
the number of points does not depend on the number of workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Any

import msgspec
from redis.exceptions import NoPermissionError

from scoreline_client.protocol.keys import GROUP, Keys, Lane

RINGS = {2: 150, 60: 180}
"""By seconds of a step, how many points are kept: the last five minutes, and the last three hours."""
KEPT_S = 4 * 3600
"""Seconds for which the history of a queue stays that no worker serves any more."""

_SCRIPTS = resources.files("scoreline_client.protocol")
LANE_STATE = _SCRIPTS.joinpath("lane_state.lua").read_text()
"""A function in Lua that returns what is in a lane; scripts that call it begin with it."""
_SCRIPT = (
    f"#!lua flags=allow-oom\n{LANE_STATE}{_SCRIPTS.joinpath('record_history.lua').read_text()}"
)

_Redis = Any
"""A blocking Redis client; redis-py's own types leave open whether its methods are to be awaited."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Backlog:
    """What waits in a lane."""

    waiting: int
    """Requests that no worker has taken yet."""
    oldest_waiting_s: float
    """Seconds for which the oldest of them has waited; 0 if there is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryPoint:
    """What waited within a step: at its beginning, or, where a step is longer than 2 s, at its worst moment."""

    at: int
    """The step's beginning, in Unix seconds by the server's clock."""
    lanes: dict[Lane, Backlog]

    @classmethod
    def decode(cls, data: bytes) -> HistoryPoint | None:
        """Read a point; None if the data are none: others may have written them."""
        try:
            at, *numbers = _decoder.decode(data)
        except msgspec.MsgspecError:
            return None
        pairs = zip(Lane, numbers[::2], numbers[1::2], strict=True)
        lanes = {lane: Backlog(waiting=n, oldest_waiting_s=ms / 1000) for lane, n, ms in pairs}
        return cls(at=at, lanes=lanes)


def record_history(redis: _Redis, keys: Keys) -> bool:
    """Note what waits now, unless another process has done so in this step; returns whether it was noted.

    Raises:
        RedisError: the server cannot be reached.
        NoPermissionError: the server's rules for users are of an earlier release.
    """
    lanes, rings = map(keys.lane, Lane), map(keys.history, RINGS)
    arguments = [GROUP, *RINGS, *RINGS.values(), KEPT_S]
    return bool(redis.register_script(_SCRIPT)(keys=[*lanes, *rings], args=arguments))


def read_history(redis: _Redis, keys: Keys) -> dict[int, list[HistoryPoint]]:
    """The points of each ring, the oldest first, by the seconds of its step; empty where they may not be read."""
    pipeline = redis.pipeline(transaction=False)
    for step, count in RINGS.items():
        pipeline.lrange(keys.history(step), 0, count - 1)
    rings = pipeline.execute(raise_on_error=False)
    history = {}
    for step, ring in zip(RINGS, rings, strict=True):
        if isinstance(ring, Exception) and not isinstance(ring, NoPermissionError):
            raise ring
        points = [] if isinstance(ring, Exception) else map(HistoryPoint.decode, reversed(ring))
        history[step] = [point for point in points if point is not None]
    return history


_decoder = msgspec.json.Decoder(tuple[int, int, int, int, int])
