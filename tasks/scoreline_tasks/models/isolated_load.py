"""Loads a version for the first time where it harms nobody: in a throw-away process with limits.

What a version does while it is loaded is up to who wrote it: it may fault in native code, end its
process, hang or take all memory. A process that serves loads it only after such a trial went well.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scoreline_artifacts import Store
from scoreline_artifacts.loading.version import load
from scoreline_tasks.system.fork_runner import Died, TookTooLong, run_apart

MIB = 1 << 20
NICENESS = 5
"""Serving goes first; much more would make a release wait for long on a busy machine."""
_WELL, _REFUSED, _HUNGRY = b"well", b"refused", b"hungry"


class TrialFailed(Exception):
    """Raised when a version did not get through its trial; the message says how."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a version may use while it is loaded for the first time."""

    limit_s: float
    memory_bytes: int
    strict: bool = False
    """Whether an environment that was not proven to do is refused, see `loading.load`."""

    @classmethod
    def within(cls, limit_s: float, limit_mb: int, *, strict: bool = False) -> Trial:
        """Limits as an operator sets them; 0 MiB stands for half of the memory that there is."""
        return cls(limit_s, limit_mb * MIB or available_memory() // 2, strict)

    def prove(self, store: Store, model: str, version: int) -> None:
        """Load a version in a process of its own and forget it again.

        Raises:
            TrialFailed: it could not be loaded there, or did something to its process.
        """
        try:
            said, *details = run_apart(
                lambda: _attempt(store, model, version, self.strict), self.limit_s, self._restrain
            )
        except TookTooLong as error:
            raise TrialFailed(
                f"loading it in a trial process took longer than {self.limit_s:g} s "
                "(SCORELINE_LOAD_LIMIT_S)"
            ) from error
        except Died as error:
            raise TrialFailed(f"loading it in a trial process {error.how}") from error
        if said == _HUNGRY:
            raise TrialFailed(
                f"loading it in a trial process needed more than {self.memory_bytes // MIB} MiB "
                "of memory (SCORELINE_LOAD_LIMIT_MB)"
            )
        if said == _REFUSED:
            raise TrialFailed(details[0].decode())

    def _restrain(self) -> None:
        os.nice(NICENESS)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        # Data, not address space: what is only reserved, or mapped from files, costs nothing.
        limit, allowed = (
            _data_bytes() + self.memory_bytes,
            resource.getrlimit(resource.RLIMIT_DATA)[1],
        )
        if allowed == resource.RLIM_INFINITY or limit < allowed:
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        _offer_to_the_oom_killer()


def explain(error: BaseException) -> str:
    """An error as the reason of a refusal."""
    return str(error) if isinstance(error, TrialFailed) else f"{type(error).__name__}: {error}"


def available_memory() -> int:
    """Bytes of memory that this machine has, or that the container's limit leaves of it."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_container_limits()])


def _attempt(store: Store, model: str, version: int, strict: bool) -> list[bytes]:
    try:
        load(store, model, version, strict=strict)
    # The boundary of the trial: whatever it raises is the reason why the version is refused.
    except BaseException as error:  # noqa: BLE001
        if _for_want_of_memory(error):
            return [_HUNGRY]
        return [_REFUSED, explain(error).encode(errors="replace")]
    return [_WELL]


def _for_want_of_memory(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _data_bytes() -> int:
    """What this process has of what RLIMIT_DATA counts; a fork begins with all of it."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])
    except OSError:
        return 0  # not Linux, where this limit does not count mapped memory either
    return pages * os.sysconf("SC_PAGE_SIZE")


def _offer_to_the_oom_killer() -> None:
    """Should the machine run out of memory all the same, this process is the one to end."""
    try:
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    except OSError:
        return  # not Linux


def _container_limits() -> Iterator[int]:
    """Limits of the control groups that this process is in, of either version."""
    root = Path("/sys/fs/cgroup")
    files = [root / "memory" / "memory.limit_in_bytes", root / "memory.max"]
    try:
        own = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        own = []
    for line in own:
        if line.startswith("0::/"):
            place = root / line[len("0::/") :]
            files += [one / "memory.max" for one in (place, *place.parents) if one != root.parent]
    for file in files:
        try:
            yield int(file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue  # not there, or "max"
