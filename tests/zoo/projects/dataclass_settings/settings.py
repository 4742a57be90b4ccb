from __future__ import annotations

from dataclasses import InitVar, dataclass, field
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Bounds:
    low: float
    high: float = float("inf")


@dataclass
class Config:
    VERSION: ClassVar[int] = 2
    bounds: dict[str, Bounds] = field(default_factory=dict)
    extra: InitVar[Bounds | None] = None
    names: list[str] = field(init=False, repr=False)

    def __post_init__(self, extra):
        self.names = sorted(self.bounds)
