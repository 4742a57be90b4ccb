"""Versions that could not be loaded, and when each may be tried again.

A refusal does not last for ever: meanwhile a key may have been trusted, or memory may be free again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

FIRST_S, LONGEST_S = 30.0, 600.0
"""Seconds until a refused version is tried again; doubled each time, up to the longest."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a version could not be loaded, and until when it is not tried again."""

    reason: str
    wait_s: float
    retry_at: float


class LoadBackoff:
    """The versions that this process could not load."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._refusals: dict[tuple[str, int], Refusal] = {}

    def reason(self, model: str, version: int) -> str | None:
        """Why a version is not to be tried now; None when it may be."""
        refusal = self._refusals.get((model, version))
        if refusal is None or self._clock() >= refusal.retry_at:
            return None
        return refusal.reason

    def note(self, model: str, version: int, reason: str) -> bool:
        """Refuse a version for a while, for longer each time; returns whether the reason is new."""
        before = self._refusals.get((model, version))
        wait_s = FIRST_S if before is None else min(before.wait_s * 2, LONGEST_S)
        self._refusals[model, version] = Refusal(reason, wait_s, self._clock() + wait_s)
        return before is None or before.reason != reason

    def forget(self, model: str, version: int) -> None:
        """Note that a version was loaded after all."""
        self._refusals.pop((model, version), None)
