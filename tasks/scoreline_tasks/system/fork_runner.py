"""Runs work in a throw-away process, for work that its process may not survive."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import msgspec

from scoreline_tasks.system.forks import fork_guard, parent_death_hook

CHECK_EVERY_S = 0.1
"""How often to check whether the process has ended: one that it started may hold the pipe open."""
ENDING_S = 0.002
"""The same, once it has closed its end of the pipe."""


class ChildDied(Exception):
    """Raised when the throw-away process ended without an answer."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"it {reason} without an answer")
        self.reason = reason
        """How it ended, as a sentence without its subject."""


class ChildTimedOut(ChildDied):
    """Raised when the throw-away process was killed because it had not finished."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"did not finish in time ({limit_s:g} s) and was ended")
        self.limit_s = limit_s


def run_in_fork(
    work: Callable[[], Any], limit_s: float, prepare: Callable[[], None] = lambda: None
) -> Any:
    """Do work in a fork of this process and bring its result back.

    A fork has the loaded versions already, so this costs some milliseconds. Whatever the work does to its
    process (exit, fault, endless loop, memory) ends with it, and so do the processes that it started.
    `prepare` is called in the new process first, to limit what it may use. The result consists of what
    MessagePack can carry: bytes, texts, numbers, lists. It is not pickled, since the work may be hostile.

    Raises:
        ChildTimedOut: it had not finished after `limit_s` seconds.
        ChildDied: the process was killed, or ended early.
    """
    deadline = time.monotonic() + limit_s
    # By os.fork, since Celery's children may have no children of multiprocessing's. No other fork of this
    # process may inherit the writing end: the reader would not see it close.
    with fork_guard():
        reader, writer = multiprocessing.Pipe(duplex=False)
        die_with_parent = parent_death_hook()
        child = os.fork()
        if child == 0:
            _work_and_exit(work, prepare, writer, die_with_parent)
        writer.close()
    code: int | None = None
    try:
        while not reader.poll(max(0.0, min(CHECK_EVERY_S, deadline - time.monotonic()))):
            if time.monotonic() >= deadline:
                raise ChildTimedOut(limit_s)
            code = _exit_code(child)
            if code is not None and not reader.poll():
                break
        else:
            return msgspec.msgpack.decode(reader.recv_bytes())
    except (EOFError, OSError, msgspec.DecodeError) as error:  # its end of the pipe is closed
        while code is None:
            if time.monotonic() >= deadline:
                raise ChildTimedOut(limit_s) from error
            time.sleep(ENDING_S)
            code = _exit_code(child)
    finally:
        reader.close()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)
        if code is None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    raise ChildDied(f"ended with {how}")


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
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, signal.SIG_DFL)
        prepare()
        writer.send_bytes(msgspec.msgpack.encode(work()))
        status = 0
    finally:
        os._exit(status)


def _exit_code(child: int) -> int | None:
    """How a process ended, minus the signal if it was one; None while it lives."""
    pid, status = os.waitpid(child, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if pid else None
