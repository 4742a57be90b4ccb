"""The operating system under a worker's processes: forks, the memory that they share, threads, and connections.

A fork copies one moment of its process. A module that another thread is importing stays half imported in
the child, behind a lock whose owner does not exist there: `ForkLock` has the child forget it, so that it imports
that module itself should it need it. So a child that has died is replaced while a version is loaded, however long
that takes.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import importlib
import logging
import multiprocessing
import os
import resource
import signal
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

_PR_SET_PDEATHSIG = 1  # linux/prctl.h

REPLY_S = 2.0
"""Seconds within which Redis has to reply; no command waits there longer than a drain, for a quarter of a second."""
TCP_OPTIONS = {
    getattr(socket, name): value
    for name, value in {
        "TCP_KEEPIDLE": 2,
        "TCP_KEEPINTVL": 1,
        "TCP_KEEPCNT": 3,
        "TCP_USER_TIMEOUT": 5000,
    }.items()
    if hasattr(socket, name)
}
"""By their numbers: a peer that is gone without a word is noticed in some 5 s, also on a connection that only waits."""


class Renewable(Protocol):
    """An object with locks of its own."""

    def forked(self) -> None:
        """In a child: replace the locks, since the threads that may hold them do not exist there."""


@contextmanager
def fork_guard() -> Iterator[None]:
    """Keep all other threads of this process from forking inside the block."""
    lock = _fork_lock()
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def watch_forks(waiting: Callable[[], AbstractContextManager[None]]) -> None:
    """Enter `waiting()` while a thread of this process waits for the guard: a pipeline that forks, for one."""
    _fork_lock().waiting = waiting


def renew_in_forks(renewable: Renewable) -> None:
    """Call `renewable.forked()` in every fork of this process, for as long as the object is alive."""
    _fork_lock().renewables.add(renewable)


def parent_death_hook() -> Callable[[], None]:
    """A function for a new process to call, so that it is killed as soon as this process ends.

    This holds even when this process is killed itself. The kernel ties it to the thread that forks: when
    that thread ends, the new process is killed, too. Where there is no such mechanism (macOS) the function
    does nothing. All lookups are made here, since little may be done between a fork and an exec.
    """
    parent = os.getpid()
    prctl = getattr(ctypes.CDLL(None), "prctl", None)

    def die_with_parent() -> None:
        if prctl is None:
            return
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != parent:
            os._exit(1)  # the parent died before its death could be a signal

    return die_with_parent


class ForkLock:
    """A lock that every fork of this process takes, and that is new in the child."""

    def __init__(self) -> None:
        self.renewables: weakref.WeakSet[Renewable] = weakref.WeakSet()
        self.waiting: Callable[[], AbstractContextManager[None]] = nullcontext
        """Entered while a thread has to wait."""
        self._lock = threading.RLock()
        os.register_at_fork(
            before=self.acquire, after_in_parent=self.release, after_in_child=self._renew
        )

    def acquire(self) -> None:
        """Wait until no other thread loads or forks."""
        if not self._lock.acquire(blocking=False):
            with self.waiting():
                self._lock.acquire()

    def release(self) -> None:
        """Let other threads fork again."""
        self._lock.release()

    def _renew(self) -> None:
        self._lock = threading.RLock()
        me = threading.get_ident()
        locks: dict[str, Callable[[], Any]] = getattr(importlib._bootstrap, "_module_locks", {})
        for name, lock_of in list(locks.items()):
            lock = lock_of()
            if getattr(lock, "owner", None) not in (None, me):
                locks.pop(name, None)
                sys.modules.pop(name, None)
        for renewable in list(self.renewables):
            renewable.forked()


@functools.cache
def _fork_lock() -> ForkLock:
    return ForkLock()


CHECK_EVERY_S = 0.1
"""How often to check whether the process has ended: a process that it started may hold the pipe open."""
ENDING_S = 0.002
"""The same, once it has closed its end of the pipe."""


class ChildDied(Exception):
    """Raised when the throw-away process ended without an answer."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"it {reason} without an answer")
        self.reason = reason
        """How it ended, as a sentence without its subject."""

    @property
    def is_killed(self) -> bool:
        """Whether it was killed from outside, as Linux does when memory is short."""
        return self.reason == "ended with signal SIGKILL"


class ChildTimedOut(ChildDied):
    """Raised when the throw-away process was killed because it had not finished."""

    def __init__(self, limit_s: float, *, is_prepared: bool = True) -> None:
        super().__init__(f"did not finish in time ({limit_s:g} s) and was ended")
        self.limit_s = limit_s
        self.is_prepared = is_prepared
        """Whether it had begun its work: if not, the time says nothing about the work."""


def run_in_fork(
    work: Callable[[], Any], limit_s: float, prepare: Callable[[], None] = lambda: None
) -> Any:
    """Do work in a fork of this process and bring its result back, see `Fork`.

    Raises:
        ChildTimedOut: it had not finished after `limit_s` seconds.
        ChildDied: the process was killed, or ended early.
    """
    return Fork(work, prepare).result(limit_s)


class Fork:
    """Work that a fork of this process does, beside it, and its result.

    A fork has the loaded versions already, so this costs some milliseconds. Whatever the work does to its
    process (exit, fault, endless loop, memory) ends with it, and so do the processes that it started.
    The result consists of values that MessagePack can carry: bytes, texts, numbers, lists. It is not pickled,
    since the work may be hostile.
    """

    def __init__(self, work: Callable[[], Any], prepare: Callable[[], None] = lambda: None) -> None:
        """Start; `prepare` is called in the new process first, to limit what it may use."""
        # By os.fork, since Celery's children may have no children of multiprocessing's. No other fork of this
        # process may inherit the writing end: the reader would not see it close.
        with fork_guard():
            self._reader, writer = multiprocessing.Pipe(duplex=False)
            die_with_parent = parent_death_hook()
            self.pid = os.fork()
            if self.pid == 0:
                _work_and_exit(work, prepare, writer, die_with_parent)
            writer.close()

    def result(
        self,
        limit_s: float,
        is_wanted: Callable[[], bool] = lambda: True,
        *,
        prepare_s: float = 0.0,
    ) -> Any:
        """Wait for the result, up to `limit_s` seconds; afterwards the process is no more.

        What `prepare` takes does not count, up to `prepare_s` seconds.

        Raises:
            ChildTimedOut: it had not finished in time, or `is_wanted()` became false.
            ChildDied: the process was killed, or ended early.
        """
        deadline = time.monotonic() + prepare_s + limit_s
        is_prepared = False
        code: int | None = None
        try:
            while True:
                if self._reader.poll(max(0.0, min(CHECK_EVERY_S, deadline - time.monotonic()))):
                    data = self._reader.recv_bytes()
                    if data or is_prepared:
                        return msgspec.msgpack.decode(data)
                    is_prepared = True
                    deadline = min(deadline, time.monotonic() + limit_s)
                    continue
                if time.monotonic() >= deadline or not is_wanted():
                    raise ChildTimedOut(limit_s, is_prepared=is_prepared)
                code = _exit_code(self.pid)
                if code is not None and not self._reader.poll():
                    break
        except (EOFError, OSError, msgspec.DecodeError) as error:  # its end of the pipe is closed
            while code is None:
                if time.monotonic() >= deadline:
                    raise ChildTimedOut(limit_s) from error
                time.sleep(ENDING_S)
                code = _exit_code(self.pid)
        finally:
            self._reader.close()
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            if code is None:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
        ending = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        raise ChildDied(f"ended with {ending}")


_T = TypeVar("_T")


def in_own_thread(work: Callable[[], _T]) -> _T:
    """Do work in a thread that ends with it; returns its result, or raises what it raises.

    A fork has only the thread that forks. What a native library keeps for another one (a team of OpenMP's, for
    one) would be waited for there in vain; with its thread it is gone before anything forks.
    """
    results: list[_T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    thread = threading.Thread(target=run, name="scoreline-load", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors.pop()
    return results.pop()


def _work_and_exit(
    work: Callable[[], Any],
    prepare: Callable[[], None],
    writer: Connection,
    die_with_parent: Callable[[], None],
) -> None:
    """The child's whole life. It never returns into its parent's stack, and runs none of its exits."""
    status = 1
    try:
        os.setpgid(0, 0)
        die_with_parent()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, signal.SIG_DFL)
        prepare()
        writer.send_bytes(b"")
        writer.send_bytes(msgspec.msgpack.encode(work()))
        status = 0
    finally:
        os._exit(status)


def _exit_code(child: int) -> int | None:
    """How a process ended, minus the signal if a signal ended it; None while it lives."""
    pid, status = os.waitpid(child, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if pid else None


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped, as by SIGSTOP; False where there is no /proc to tell."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    # The name before it, in brackets, may have any character.
    return stat.rpartition(")")[2].split()[0] == "T"


def limit_process(memory_bytes: int, *, oom_score: int) -> None:
    """Limit the memory that this process may take beside what it has.

    Beyond the limit allocations fail: a MemoryError in Python, the end of the process in much native code. Should
    the machine run out of memory all the same, Linux ends processes with a higher `oom_score` (up to 1000) first.
    """
    # RLIMIT_DATA, not RLIMIT_AS: memory that is only reserved, or mapped from files, costs nothing.
    # A fork begins with all data of its parent. Where there is no statm (macOS), mapped memory does
    # not count against this limit either.
    own_bytes = 0
    with suppress(OSError):
        own_pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[5]
        own_bytes = int(own_pages) * os.sysconf("SC_PAGE_SIZE")
    limit = own_bytes + memory_bytes
    allowed = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if allowed == resource.RLIM_INFINITY or limit < allowed:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(oom_score), encoding="ascii")


# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 16 << 20
"""Free memory that a process that serves keeps for its next batch."""
BLOCK_BYTES = 8 << 20
"""Larger blocks are mapped and unmapped each time."""


def settle() -> None:
    """Collect garbage, then exempt all remaining objects from collection.

    The collector writes to the page of every object that it visits, and a child of this process then no
    longer shares that page.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    trim()


def share_memory() -> None:
    """In a child: what it has from its main process is never garbage here, and its pages stay shared."""
    gc.freeze()


def trim() -> None:
    """Give freed memory back to the system: the C library keeps it otherwise."""
    with suppress(AttributeError, OSError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


def keep_freed() -> None:
    """Raise malloc's trim threshold, so that the next batch reuses freed pages.

    The batches of a process that serves take the same few megabytes over and over. Pages that were given
    back return one by one, each cleared by the system: with frames that was a third of a process's time.
    """
    with suppress(AttributeError, OSError):  # not glibc
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, BLOCK_BYTES)
        library.mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)


logger = logging.getLogger(__name__)

STOP_S = 2.0
"""Seconds that `stop` waits for a turn to end."""


class Periodic:
    """Repeats work in a daemon thread, from `start` to `stop`.

    It runs in the process that starts it: in a fork of that process, `stop` does nothing.
    """

    def __init__(self, name: str, every_s: float, work: Callable[[], object], failure: str) -> None:
        """Prepare to call `work` every `every_s` seconds; `failure` is logged for what it raises."""
        self._every_s = every_s
        self._work = work
        self._failure = failure
        self._last_failure = ""
        self._due = threading.Event()
        self._is_stopped = False
        self._pid = 0
        self._thread = threading.Thread(target=self._run, name=f"scoreline-{name}", daemon=True)

    def start(self) -> None:
        """Start with a first turn."""
        self._pid = os.getpid()
        self._thread.start()

    def trigger(self) -> None:
        """Begin the next turn now."""
        self._due.set()

    def sleep(self) -> None:
        """Wait until the next turn is due, is triggered, or `stop` is called."""
        if not self._is_stopped:
            self._due.wait(self._every_s)

    def stop(self, wait_s: float = STOP_S) -> None:
        """End after the current turn, which is waited for up to `wait_s` seconds."""
        if self._pid != os.getpid():
            return
        self._is_stopped = True
        self._due.set()
        self._thread.join(wait_s)

    def _run(self) -> None:
        while not self._is_stopped:
            self._due.clear()
            try:
                self._work()
            # The next turn tries again: a process without this thread is taken for dead.
            except Exception as error:
                if repr(error) != self._last_failure:
                    logger.exception(self._failure)
                self._last_failure = repr(error)
            else:
                self._last_failure = ""
            self.sleep()
