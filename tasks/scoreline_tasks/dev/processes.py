"""Child processes of `up`, `demo` and the embedded server: none of them outlives its owner.

In the ordinary case the owner leaves a `with` block, by its end, by an exception, by Ctrl-C or by
SIGTERM (see `interruptible`), and the child is stopped. Should the owner be killed outright, the
guard sees it and stops the child in its place.
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

WARM_STOP_S = 10.0
"""Seconds that a child has to finish what it is doing before it is killed."""

# Waits for a line, which never comes when the owner is killed: then the end of its input does.
_GUARD = """
exec 2>/dev/null
read -r line && exit 0
kill -TERM "$1"
tries=0
while kill -0 "$1" && [ "$tries" -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
kill -KILL "$1"
kill -KILL -- "-$1"
"""


@contextmanager
def guarded(pid: int) -> Iterator[None]:
    """End process `pid` and its group if this process dies inside the block, even by `kill -9`."""
    guard = None
    try:
        with undisturbed():
            guard = subprocess.Popen(  # noqa: S603 - the script is the constant above
                ["/bin/sh", "-c", _GUARD, "scoreline-guard", str(pid)],
                stdin=subprocess.PIPE,
                start_new_session=True,
            )
        yield
    finally:
        if guard is not None:
            guard.communicate(b"the owner stops it by itself\n")


@contextmanager
def running(
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    output: IO[bytes] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in a process group of its own, so that Ctrl-C reaches only its owner.

    `environment` is added to this process's own; `output` gets what the program prints, or it goes
    where this process's output goes. At the end of the block the program is asked to stop, and
    killed with its whole group if it does not within WARM_STOP_S.
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
            )
        with guarded(child.pid):
            yield child
    finally:
        if child is not None:
            stop(child)


def stop(child: subprocess.Popen[bytes]) -> None:
    """Ask a program to end; kill it and its process group if it does not."""
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

    A child must not get lost between its start and the moment when we know of it.
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
