"""Loads a version for the first time where it harms nobody: in a throw-away process with limits.

Its author decides what a version does while it is loaded: it may fault in native code, end its process,
hang or take all memory. A process that serves loads a version only after such a trial succeeded. A version
that could not be loaded is refused for a while, not for ever: meanwhile a key may have been trusted, or
memory may be free again.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from scoreline_artifacts import Store
from scoreline_artifacts.loading.version import load
from scoreline_tasks.system import ChildDied, ChildTimedOut, run_in_fork

MIB = 1 << 20
NICENESS = 5
"""Serving goes first; a much larger value would delay a release for long on a busy machine."""
LOADED, OUT_OF_MEMORY = "loaded", "out of memory"
"""What the trial process answers; anything else is the reason why the version is refused."""


class IsolatedLoadFailed(Exception):
    """Raised when a version could not be loaded in its trial process; the message says why."""


@dataclass(frozen=True, slots=True)
class IsolatedLoad:
    """The limits of a version that is loaded for the first time."""

    limit_s: float
    memory_bytes: int
    strict: bool = False
    """Whether an environment that is not proven compatible is refused, see `loading.load`."""

    @classmethod
    def within(cls, limit_s: float, limit_mb: int, *, strict: bool = False) -> IsolatedLoad:
        """Limits as an operator sets them; 0 MiB stands for half of the memory of the machine."""
        return cls(limit_s, limit_mb * MIB or available_memory() // 2, strict)

    def run(self, store: Store, model: str, version: int) -> None:
        """Load a version in a process of its own, which then ends.

        Raises:
            IsolatedLoadFailed: it could not be loaded there, or its process did not survive it.
        """

        def attempt() -> str:
            try:
                load(store, model, version, strict=self.strict)
            # The boundary of the trial: whatever it raises is the reason why the version is refused.
            except BaseException as error:  # noqa: BLE001
                cause: BaseException | None = error
                while cause is not None:
                    if isinstance(cause, MemoryError):
                        return OUT_OF_MEMORY
                    cause = cause.__cause__ or cause.__context__
                return reason_text(error).encode(errors="replace").decode()
            return LOADED

        try:
            outcome = run_in_fork(attempt, self.limit_s, self._limit_process)
        except ChildTimedOut as error:
            raise IsolatedLoadFailed(
                f"loading it in a trial process took longer than {self.limit_s:g} s "
                "(SCORELINE_LOAD_LIMIT_S)"
            ) from error
        except ChildDied as error:
            raise IsolatedLoadFailed(f"loading it in a trial process {error.reason}") from error
        if outcome == OUT_OF_MEMORY:
            raise IsolatedLoadFailed(
                f"loading it in a trial process needed more than {self.memory_bytes // MIB} MiB "
                "of memory (SCORELINE_LOAD_LIMIT_MB)"
            )
        if outcome != LOADED:
            raise IsolatedLoadFailed(outcome)

    def _limit_process(self) -> None:
        os.nice(NICENESS)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        # RLIMIT_DATA, not RLIMIT_AS: memory that is only reserved, or mapped from files, costs nothing.
        # A fork begins with all data of its parent. Where there is no statm (macOS), mapped memory does
        # not count against this limit either.
        own_bytes = 0
        with suppress(OSError):
            own_pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[5]
            own_bytes = int(own_pages) * os.sysconf("SC_PAGE_SIZE")
        limit = own_bytes + self.memory_bytes
        allowed = resource.getrlimit(resource.RLIMIT_DATA)[1]
        if allowed == resource.RLIM_INFINITY or limit < allowed:
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        # Should the machine run out of memory all the same, Linux kills this process first.
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def reason_text(error: BaseException) -> str:
    """An error as the reason why a version is refused."""
    is_reason = isinstance(error, IsolatedLoadFailed)
    return str(error) if is_reason else f"{type(error).__name__}: {error}"


def available_memory() -> int:
    """Bytes of memory that this machine has, or that the container's limit leaves of it."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    # The control groups that this process is in, of either version.
    root = Path("/sys/fs/cgroup")
    files = [root / "memory" / "memory.limit_in_bytes", root / "memory.max"]
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            if line.startswith("0::/"):
                group = root / line[len("0::/") :]
                files += [
                    folder / "memory.max"
                    for folder in (group, *group.parents)
                    if folder != root.parent
                ]
    for file in files:
        with suppress(OSError, ValueError):  # there is none, or it says "max"
            limits.append(int(file.read_text(encoding="ascii")))
    return min(limits)


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
