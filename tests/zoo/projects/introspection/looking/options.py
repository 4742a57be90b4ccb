from __future__ import annotations

from dataclasses import dataclass

from .kinds import Kind


@dataclass
class Options:
    kind: Kind = Kind.BOTH
    width: int = 2
