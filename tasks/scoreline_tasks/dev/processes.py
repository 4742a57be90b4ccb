"""Child processes of `up`, `demo` and the embedded server: none of them outlives its owner.

The owner leaves a `with` block at its end, by an exception, by Ctrl-C or by SIGTERM (see `interruptible`), and
stops the child. When the owner itself is killed, Linux kills the child. macOS does not: there it stays.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import IO

from scoreline_tasks.system import parent_death_hook

WARM_STOP_S = 10.0
"""Seconds that a child has to finish its work before it is killed."""


@contextmanager
def running(
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    output: IO[bytes] | None = None,
    *,
    umask: int = -1,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in a process group of its own, so that Ctrl-C reaches only its owner.

    `environment` is added to this process's own. `output` gets the program's output; without it, that
    goes where this process's output goes. `umask` -1 is this process's own. At the end of the block the
    program gets SIGTERM, and is killed with its whole group if it does not end within WARM_STOP_S. The thread that
    enters the block must live until its end: Linux kills the program with it.
    """
    child = None
    try:
        with undisturbed():
            child = subprocess.Popen(  # noqa: S603 - callers pass constants and their own settings
                command,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                process_group=0,
                umask=umask,
                preexec_fn=parent_death_hook(),
            )
        yield child
    finally:
        if child is not None:
            stop(child)


def stop(child: subprocess.Popen[bytes]) -> None:
    """Ask a program to end; kill it and its process group if it does not within WARM_STOP_S."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(WARM_STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Put off Ctrl-C and SIGTERM to the end of the block.

    Otherwise a child could be lost between its start and its assignment to a variable, or an interrupt in
    Python's own code around a fork, where exceptions are dropped and locks stay locked.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are delivered elsewhere
        return
    received: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for late in received:
        signal.raise_signal(late)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt, as Ctrl-C does, so that `with` blocks clean up."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
