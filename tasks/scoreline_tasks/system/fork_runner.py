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
    # No other fork of this process may inherit the writing end: the reader would not see it close.
    with fork_guard():
        reader, writer = multiprocessing.Pipe(duplex=False)
        child = multiprocessing.get_context("fork").Process(
            # A daemon, so that the end of this process does not wait for it.
            target=_work_and_exit, args=(work, prepare, writer, parent_death_hook()), daemon=True
        )  # fmt: skip
        child.start()
        writer.close()
    try:
        while not reader.poll(max(0.0, min(CHECK_EVERY_S, deadline - time.monotonic()))):
            if time.monotonic() >= deadline:
                raise ChildTimedOut(limit_s)
            if not child.is_alive() and not reader.poll():
                raise EOFError  # noqa: TRY301 - the same as a pipe that is closed
        return msgspec.msgpack.decode(reader.recv_bytes())
    except (EOFError, OSError, msgspec.DecodeError) as error:
        child.join(
            max(0.0, deadline - time.monotonic())
        )  # its end of the pipe is closed before it ends
        code = child.exitcode
        if code is None:
            raise ChildTimedOut(limit_s) from error
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        raise ChildDied(f"ended with {how}") from error
    finally:
        reader.close()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid or 0, signal.SIGKILL)
        child.kill()
        child.join()


def _work_and_exit(
    work: Callable[[], Any],
    prepare: Callable[[], None],
    writer: Connection,
    die_with_parent: Callable[[], None],
) -> None:
    """The child's whole life. It never returns into its parent's stack, and runs none of its exits."""
    status = 1
    try:
        multiprocessing.current_process().daemon = False  # the work may start processes
        os.setpgid(0, 0)
        die_with_parent()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, signal.SIG_DFL)
        prepare()
        writer.send_bytes(msgspec.msgpack.encode(work()))
        status = 0
    finally:
        os._exit(status)
