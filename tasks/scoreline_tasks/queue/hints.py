"""How a drain asks the fleet for company."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hints:
    """What a drain may send; losing a hint costs time, never a request."""

    help: Callable[[], None]
    """Another drain, in any free process of the fleet."""
    rescue: Callable[[], None]
    """Somebody to take over what dead processes left."""
