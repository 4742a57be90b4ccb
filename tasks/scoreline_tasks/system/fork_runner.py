"""A throw-away process for work that its process may not survive."""

from __future__ import annotations

import os
import select
import signal
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from celery.platforms import set_pdeathsig

from scoreline_tasks.system.forks import no_fork

_LENGTH = struct.Struct("!Q")
LOOK_EVERY_S = 0.1
"""How often to look whether the process has ended, should its answer's end not be seen: a process of
its own may have inherited the pipe."""
ENDING_S = 0.002
"""The same, once it has closed its side."""


class Died(Exception):
    """Raised when the throw-away process ended without an answer."""

    def __init__(self, how: str) -> None:
        super().__init__(f"it {how} without an answer")
        self.how = how
        """How it ended, as a sentence without its subject."""


class TookTooLong(Died):
    """Raised when the throw-away process was killed because it had not finished."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"did not finish in time ({limit_s:g} s) and was ended")
        self.limit_s = limit_s


def run_apart(
    work: Callable[[], Sequence[bytes]],
    limit_s: float,
    restrain: Callable[[], None] = lambda: None,
) -> list[bytes]:
    """Do work in a fork of this process and bring its results back.

    A fork has the loaded versions already, so this costs some milliseconds. What the work does to its
    process (exit, fault, endless loop, memory) ends there, and so do processes that it started.
    `restrain` is called in the new process first, to limit what it may use.

    Raises:
        TookTooLong: it had not finished after `limit_s` seconds.
        Died: the process was killed, or ended early.
    """
    # No other fork of this process may inherit the writing side: the answer would not end then.
    parent = os.getpid()
    with no_fork():
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            _work_and_exit(work, restrain, writer, parent)
        os.close(writer)
    try:
        data = _read_all(reader, child, limit_s)
    finally:
        os.close(reader)
        how = _end(child)
    return _unpack(data, how)


def _work_and_exit(
    work: Callable[[], Sequence[bytes]], restrain: Callable[[], None], writer: int, parent: int
) -> None:
    """The child's whole life. It never returns into its parent's stack, and runs none of its exits."""
    status = 1
    try:
        os.setpgid(0, 0)
        set_pdeathsig("SIGKILL")
        if os.getppid() != parent:
            return  # it died before its death could be a signal
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, signal.SIG_DFL)
        restrain()
        with os.fdopen(writer, "wb") as out:
            results = work()
            out.write(_LENGTH.pack(len(results)))
            for result in results:
                out.write(_LENGTH.pack(len(result)) + result)
        status = 0
    finally:
        os._exit(status)


def _read_all(reader: int, child: int, limit_s: float) -> bytes:
    deadline = time.monotonic() + limit_s
    os.set_blocking(reader, False)
    poll = select.poll()
    poll.register(reader, select.POLLIN | select.POLLHUP)
    data, closed = bytearray(), False
    while True:
        ended = _has_ended(child, closed)
        closed = _read(reader, data)
        if ended:
            return bytes(data)
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TookTooLong(limit_s)
        if closed:
            time.sleep(min(left_s, ENDING_S))
        else:
            poll.poll(min(left_s, LOOK_EVERY_S) * 1000)


def _read(reader: int, data: bytearray) -> bool:
    """Read what is there; returns whether the other side is closed."""
    with suppress(BlockingIOError):
        while part := os.read(reader, 1 << 20):
            data += part
        return True
    return False


def _has_ended(child: int, closed: bool) -> bool:
    """Whether it has; without reaping it, so that its number stays its own."""
    if not hasattr(os, "waitid"):
        return closed  # macOS: the end of its answer has to do
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end(child: int) -> str:
    """Kill a process with its group, if it still lives; returns how it ended."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0:
        return f"ended with signal {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def _unpack(data: bytes, how: str) -> list[bytes]:
    try:
        (count,) = _LENGTH.unpack_from(data)
        results: list[bytes] = []
        at = _LENGTH.size
        for _ in range(count):
            (length,) = _LENGTH.unpack_from(data, at)
            at += _LENGTH.size + length
            if at > len(data):
                raise Died(how)
            results.append(data[at - length : at])
    except struct.error as error:
        raise Died(how) from error
    return results
