"""Watches a release on its way through the fleet: who serves it, who refuses it, who still has to move."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from redis import Redis

from scoreline_client import fleet
from scoreline_client.protocol.keys import Keys

POLL_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """How far the fleet is on its way to a version; worker processes by name."""

    model: str
    alias: str
    version: int
    serving: list[str] = field(default_factory=list)
    refusing: dict[str, str] = field(default_factory=dict)
    """Why, by process."""
    waiting: list[str] = field(default_factory=list)
    """Processes that have not moved yet."""
    seconds: float = 0.0
    """Since the news of the release was sent."""

    @property
    def processes(self) -> int:
        """How many worker processes are alive."""
        return len(self.serving) + len(self.refusing) + len(self.waiting)

    @property
    def settled(self) -> bool:
        """Whether nothing more will happen by itself."""
        return not self.waiting

    @property
    def complete(self) -> bool:
        """Whether every process that is alive serves the version."""
        return not self.waiting and not self.refusing


def follow(
    redis: Redis,
    keys: Keys,
    rollout: Rollout,
    timeout_s: float,
    on_progress: Callable[[Rollout], None] = lambda _: None,
    now: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> Rollout:
    """Wait until every worker process serves the version or refuses it, or time is up."""
    begun = now()
    while True:
        rollout = look(redis, keys, rollout, now() - begun)
        on_progress(rollout)
        if rollout.settled or rollout.seconds >= timeout_s:
            return rollout
        pause(POLL_S)


def look(redis: Redis, keys: Keys, rollout: Rollout, seconds: float = 0.0) -> Rollout:
    """Where the fleet stands now."""
    reports = fleet.read_reports(redis, keys)
    serving, refusing, waiting = fleet.convergence(
        reports, rollout.model, rollout.alias, rollout.version
    )
    return Rollout(
        model=rollout.model,
        alias=rollout.alias,
        version=rollout.version,
        serving=serving,
        refusing=refusing,
        waiting=waiting,
        seconds=seconds,
    )
