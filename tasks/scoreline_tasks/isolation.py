"""A throw-away process for requests that may have killed the one that scored them."""

from __future__ import annotations

import os
import select
import signal
import struct
import time
from collections.abc import Callable, Sequence

_LENGTH = struct.Struct("!Q")


class Died(Exception):
    """Raised when the throw-away process ended without an answer, or took too long."""


def run_apart(work: Callable[[], Sequence[bytes]], limit_s: float) -> list[bytes]:
    """Do work in a fork of this process and bring its results back.

    A fork has the loaded versions already, so this costs some milliseconds. What the work does to its
    process (exit, fault, endless loop, memory) ends there.

    Raises:
        Died: the process was killed, ended early, or had not finished after `limit_s` seconds.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _work_and_exit(work, writer)
    os.close(writer)
    try:
        data = _read_all(reader, time.monotonic() + limit_s)
    finally:
        os.close(reader)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return _unpack(data)


def _work_and_exit(work: Callable[[], Sequence[bytes]], writer: int) -> None:
    """The child's whole life. It never returns into its parent's stack, and runs none of its exits."""
    status = 1
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, signal.SIG_DFL)
        with os.fdopen(writer, "wb") as out:
            results = work()
            out.write(_LENGTH.pack(len(results)))
            for result in results:
                out.write(_LENGTH.pack(len(result)) + result)
        status = 0
    finally:
        os._exit(status)


def _read_all(reader: int, deadline: float) -> bytes:
    poll = select.poll()
    poll.register(reader, select.POLLIN | select.POLLHUP)
    parts: list[bytes] = []
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise Died("it did not finish in time")
        part = os.read(reader, 1 << 20)
        if not part:
            return b"".join(parts)
        parts.append(part)


def _unpack(data: bytes) -> list[bytes]:
    try:
        (count,) = _LENGTH.unpack_from(data)
        results: list[bytes] = []
        at = _LENGTH.size
        for _ in range(count):
            (length,) = _LENGTH.unpack_from(data, at)
            at += _LENGTH.size + length
            if at > len(data):
                raise Died("it ended in the middle of its answer")
            results.append(data[at - length : at])
    except struct.error as error:
        raise Died("it ended without an answer") from error
    return results
