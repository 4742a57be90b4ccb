"""Loads a version for the first time where it harms nobody: in a throw-away process with limits.

Its author decides what a version does while it is loaded: it may fault in native code, end its process,
hang or take all memory. A process that serves loads a version only after such a trial succeeded. A version
that could not be loaded is refused for a while, not for ever: meanwhile a key may have been trusted, or
memory may be free again.

The trial does with a version what is done where it serves. A main process whose children serve loads it in a
thread that ends, forks, and scores nothing itself: its children do. So the trial loads in a thread and has a fork of
its own score the golden rows. What has started threads by then (OpenMP's, a library's own) waits for them
there for ever. Such a version is loaded by each child for itself, if the trial can score it without a fork.
"""

from __future__ import annotations

import enum
import os
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scoreline_artifacts import Store
from scoreline_artifacts.loading.artifact import load_unproven
from scoreline_tasks.system import (
    ChildDied,
    ChildTimedOut,
    Fork,
    in_own_thread,
    limit_process,
    run_in_fork,
)

MIB = 1 << 20
NICENESS = 5
"""Serving goes first; a much larger value would delay a release for long on a busy machine."""
OUT_OF_MEMORY = "out of memory"
"""A trial process's reason that stands for another one, which names the limit."""
LONGER_IN_A_FORK = 4
"""How many times as long as the trial itself its fork may take for the golden rows, and a few seconds more."""
LONGER_IN_A_FORK_S = 5.0
LEFT = 0.1
"""The share of the trial's limit that is left for its answer, however long its fork takes."""


class IsolatedLoadFailed(Exception):
    """Raised when a version could not be loaded in its trial process; the message says why."""


class ServedBy(enum.Enum):
    """The pool of a worker: in which process and thread a version is scored that another one has loaded."""

    FORKS = "prefork"
    """Children that are forked after it was loaded."""
    MAIN_THREAD = "solo"
    """The process that has loaded it, in its main thread; it never forks."""
    THREADS = "threads"
    """The process that has loaded it, in other threads; it never forks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """What the trial of a version that can be served has shown."""

    not_inherited: str | None = None
    """Why forks cannot score what was loaded before them, so that each has to load it; None where they can."""
    is_exclusive: bool = False
    """Whether its modules set something that all threads of a process see: nothing is scored while it is loaded."""
    settings: list[str] | None = None
    """The settings of the process that it changes; None if nobody knows."""
    imports: list[str] = field(default_factory=list)
    """The installed modules that its first scoring has imported."""


@dataclass(frozen=True, slots=True)
class IsolatedLoad:
    """The limits of a version that is loaded for the first time."""

    limit_s: float
    memory_bytes: int
    strict: bool = False
    """Whether an environment that is not proven compatible is refused, see `loading.load`."""
    served_by: ServedBy = ServedBy.FORKS

    @classmethod
    def within(
        cls,
        limit_s: float,
        limit_mb: int,
        *,
        strict: bool = False,
        served_by: ServedBy = ServedBy.FORKS,
    ) -> IsolatedLoad:
        """Limits as an operator sets them; 0 MiB stands for half of the memory of the machine."""
        return cls(limit_s, limit_mb * MIB or available_memory() // 2, strict, served_by)

    def run(self, store: Store, model: str, version: int, *, gives_way: bool = True) -> TrialResult:
        """Load a version in a process of its own, which then ends; it gives way to processes that serve.

        Raises:
            IsolatedLoadFailed: it could not be loaded there, or its process did not survive it.
        """

        _import_shared()

        def attempt() -> dict[str, Any] | str:
            try:
                return asdict(self._try(store, model, version))
            # The boundary of the trial: whatever it raises is the reason why the version is refused.
            except BaseException as error:  # noqa: BLE001
                return _reason_of(error)

        def limit() -> None:
            os.nice(NICENESS if gives_way else 0)
            limit_process(self.memory_bytes, oom_score=1000)

        try:
            outcome = run_in_fork(attempt, self.limit_s, limit)
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
        if isinstance(outcome, str):
            raise IsolatedLoadFailed(outcome)
        return TrialResult(**outcome)

    def _try(self, store: Store, model: str, version: int) -> TrialResult:
        """Inside the trial process: load, and score where and how it will be scored."""
        deadline = time.monotonic() + (1 - LEFT) * self.limit_s
        loaded, check = in_own_thread(
            lambda: load_unproven(store, model, version, strict=self.strict)
        )

        def check_in_fork() -> str | None:
            try:
                check()
            # The boundary of the fork: whatever is raised is the reason why forks cannot score the version.
            except BaseException as error:  # noqa: BLE001
                return _reason_of(error)
            return None

        fork = Fork(check_in_fork) if self.served_by is ServedBy.FORKS else None
        imported, started = set(sys.modules), time.monotonic()
        # Beside the fork: this tells a version that does not survive the fork from one that never answers.
        if self.served_by is ServedBy.THREADS:
            in_own_thread(check)
        else:
            check()
        seconds = time.monotonic() - started
        not_inherited = None
        if fork is not None:
            try:
                # Not beyond the trial's own time: what answers here is deferred then, and not refused.
                longest_s = LONGER_IN_A_FORK_S + LONGER_IN_A_FORK * seconds
                left_s = max(0.0, deadline - time.monotonic())
                not_inherited = fork.result(min(longest_s, left_s))
            except ChildDied as death:
                not_inherited = f"a fork of the process that has loaded it {death.reason}"
        return TrialResult(
            not_inherited=not_inherited,
            is_exclusive=loaded.settings.is_of_process,
            settings=loaded.settings.names,
            imports=sorted(name for name in set(sys.modules) - imported if ":" not in name),
        )


def _import_shared() -> None:
    """Import what nearly every version needs, once: its trial shares it with the process that loads it afterwards."""
    with suppress(Exception):  # whatever it is, each trial meets it, and says so
        import pandas  # noqa: F401
        import sklearn.pipeline  # noqa: F401


def _reason_of(error: BaseException) -> str:
    """An exception inside a trial process as the reason why the version is refused."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError):
            return OUT_OF_MEMORY
        cause = cause.__cause__ or cause.__context__
    return reason_text(error).encode(errors="replace").decode()


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
REMEMBERED = 1000
"""Refused versions that a process remembers: callers who name versions by number decide how many there are."""


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
        self._refusals: OrderedDict[tuple[str, int], Refusal] = OrderedDict()

    def reason(self, model: str, version: int) -> str | None:
        """Why a version is not to be tried now; None when it may be."""
        refusal = self._refusals.get((model, version))
        if refusal is None or self._clock() >= refusal.retry_at:
            return None
        return refusal.reason

    def note(self, model: str, version: int, reason: str) -> bool:
        """Refuse a version for a while, for longer each time; returns whether the reason is new."""
        last = self._refusals.get((model, version))
        wait_s = FIRST_S if last is None else min(last.wait_s * 2, LONGEST_S)
        self._refusals[model, version] = Refusal(reason, wait_s, self._clock() + wait_s)
        self._refusals.move_to_end((model, version))
        if len(self._refusals) > REMEMBERED:
            self._refusals.popitem(last=False)
        return last is None or last.reason != reason

    def forget(self, model: str, version: int) -> None:
        """Note that a version was loaded after all."""
        self._refusals.pop((model, version), None)
