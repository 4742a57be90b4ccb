"""A plan in service: whether publishing has proved it, with which libraries, up to how many rows, and whether it holds here.

The proof is one of an artifact's files, `plan.json`: its readers build the plan from the unpickled pipeline, so that there
are no further bytes to trust, and use it only where the libraries are those that it was proved with.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from typing import Any

from scoreline_artifacts import golden
from scoreline_artifacts.manifest import PLAN
from scoreline_artifacts.plan import ScoringPlan

PLAN_CODE = "6"
"""The version of the code in `plan/`: raised with every change of what a plan answers."""
_LIBRARIES = ("scikit-learn", "numpy", "pandas", "scipy")
_LIBRARIES_OF_ENDS = ("lightgbm",)

logger = logging.getLogger(__name__)


def versions_here() -> dict[str, str]:
    """The versions on which the answers of a plan depend that this process has read."""
    used = [name for name in _LIBRARIES_OF_ENDS if name in sys.modules]
    return {"plan": PLAN_CODE} | _installed(*_LIBRARIES, *used)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanProof:
    """What publishing found out about the plan of a pipeline."""

    reason: str = ""
    """Why the pipeline is used instead; empty where the plan is."""
    nodes: int = 0
    opaque: list[str] = field(default_factory=list)
    """The ways of the steps that are called, since nothing is known of what they do."""
    rows: int = 0
    """Rows that were scored through both and answered by the plan."""
    max_error: float = 0.0
    """The largest difference of a number, relative to it, or to the median of its batch if that is larger."""
    up_to_rows: int = 0
    """Up to how many rows the plan was faster than the pipeline."""
    versions: dict[str, str] = field(default_factory=dict)
    """As `versions_here` gave them."""

    def encode(self) -> bytes:
        """As JSON."""
        return json.dumps(asdict(self), sort_keys=True, indent=1).encode() + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> PlanProof:
        """The inverse of `encode`; fields of later releases are ignored, and what cannot be read proves nothing."""
        try:
            fields = {
                name: value for name, value in json.loads(data).items() if name in cls.__slots__
            }
            return cls(**fields)
        except (ValueError, TypeError, AttributeError) as error:
            return cls(reason=f"{PLAN} cannot be read: {error}")

    def unusable(self) -> str:
        """Why the plan is not used in this environment; empty where it is."""
        if self.reason:
            return self.reason
        installed = {"plan": PLAN_CODE} | _installed(
            *_LIBRARIES, *(self.versions.keys() - {"plan"})
        )
        other = [
            f"{name} {self.versions.get(name)}"
            for name, version in installed.items()
            if self.versions.get(name) != version
        ]
        return f"it was proved with {', '.join(other)}, which is not here" if other else ""


def _installed(*names: str) -> dict[str, str]:
    """Versions of distributions; empty for what is not installed."""
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = ""
    return versions


class ProvenPlan:
    """A plan that publishing has proved, checked in this process by golden rows before it answers anything else."""

    def __init__(self, plan: ScoringPlan, up_to_rows: int, name: str) -> None:
        """`name` is the version's, for logs."""
        self.plan, self.up_to_rows, self.name = plan, up_to_rows, name
        self.reason = ""
        """Why it is not used; empty while it is."""
        self._rows: Sequence[golden.GoldenRow] | None = None
        self._tolerance = 0.0
        self._lock = threading.Lock()

    def to_check(self, rows: Sequence[golden.GoldenRow], tolerance: float) -> None:
        """Have it checked by these rows before its first use."""
        self._rows, self._tolerance = rows, tolerance

    def takes(
        self, count: int, score: Callable[[list[dict[str, Any]]], list[golden.GoldenRow]]
    ) -> bool:
        """Whether it is to score so many rows; `score` scores golden records through it.

        It is checked in the process that scores, and not where it was loaded: what a step starts, such as threads,
        is not there in a fork.
        """
        if self.reason or not 0 < count <= self.up_to_rows:
            return False
        if self._rows is not None:
            with self._lock:
                if (rows := self._rows) is not None:
                    self.reason = self._difference(rows, score)
                    self._rows = None
                    if self.reason:
                        logger.warning(
                            "plan_not_used version=%s: its pipeline scores: %s",
                            self.name,
                            self.reason,
                        )
        return not self.reason

    def _difference(
        self,
        rows: Sequence[golden.GoldenRow],
        score: Callable[[list[dict[str, Any]]], list[golden.GoldenRow]],
    ) -> str:
        try:
            answers = score([row.record for row in rows])
        # Whatever a step raises that is called: the pipeline scores, and raises it if it is to be raised.
        except Exception as error:  # noqa: BLE001
            return f"golden rows cannot be scored through it: {type(error).__name__}: {error}"
        for index, (row, answer) in enumerate(zip(rows, answers, strict=True)):
            if not golden.same_answer(row, answer, self._tolerance):
                return f"it answers golden row {index} with {answer.value!r}, not {row.value!r}"
        return ""
