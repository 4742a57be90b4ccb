"""Forks of a worker's process and its repeating threads: what they leave behind, and what they survive."""

import faulthandler
import importlib
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from scoreline_tasks.system import ChildDied, Periodic, run_in_fork


def test_results_come_back_as_they_were() -> None:
    assert run_in_fork(lambda: [b"", b"a" * 300_000, b"\x00\n"], 10) == [
        b"",
        b"a" * 300_000,
        b"\x00\n",
    ]


def test_the_work_is_done_in_another_process() -> None:
    (pid,) = run_in_fork(lambda: [str(os.getpid()).encode()], 10)
    assert int(pid) != os.getpid()


def _exit() -> list[bytes]:
    os._exit(0)


def _fault() -> list[bytes]:
    faulthandler.disable()  # its report would look like that of a failed test
    os.kill(os.getpid(), signal.SIGSEGV)
    return []


def _raise() -> list[bytes]:
    raise SystemExit


def _leave_a_child_that_holds_the_pipe() -> list[bytes]:
    if os.fork() == 0:
        time.sleep(60)
    os._exit(0)


@pytest.mark.parametrize("end", [_leave_a_child_that_holds_the_pipe, _exit, _fault, _raise])
def test_a_process_that_ends_without_an_answer_died(end: object) -> None:
    with pytest.raises(ChildDied, match="without an answer"):
        run_in_fork(end, 10)  # type: ignore[arg-type]


def test_how_the_process_ended_is_told() -> None:
    for end, how in ((_fault, "ended with signal SIGSEGV"), (_exit, "ended with exit code 0")):
        with pytest.raises(ChildDied) as caught:
            run_in_fork(end, 10)
        assert caught.value.reason == how


def test_processes_that_it_started_end_with_it() -> None:
    def leave_a_child() -> list[bytes]:
        child = os.fork()
        if child == 0:
            time.sleep(60)
        return [str(child).encode()]

    (child,) = run_in_fork(leave_a_child, 10)
    for _ in range(1000):
        if not psutil.pid_exists(int(child)) or psutil.Process(int(child)).status() == "zombie":
            return
        time.sleep(0.01)
    pytest.fail("it lives on")


def test_it_is_prepared_before_it_works() -> None:
    order: list[bytes] = []
    assert run_in_fork(lambda: [*order, b"work"], 10, prepare=lambda: order.append(b"prepare")) == [
        b"prepare",
        b"work",
    ]
    assert order == []


def test_a_process_that_hangs_is_killed() -> None:
    pids, writer = os.pipe()

    def hang() -> list[bytes]:
        os.write(writer, str(os.getpid()).encode())
        while True:
            time.sleep(1)

    with pytest.raises(ChildDied, match="in time"):
        run_in_fork(hang, 0.2)
    with pytest.raises(ProcessLookupError):
        os.kill(int(os.read(pids, 20)), 0)
    os.close(pids)
    os.close(writer)


BATCHES = 50
PAGES_A_BATCH = 1000
"""Of the four megabytes that a batch takes."""
_FAULTS = """
import resource
import numpy as np
from scoreline_tasks.system import keep_freed

def batch():
    parts = [np.ones(62_500) for _ in range(8)]
    return np.concatenate(parts).sum()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

keep_freed()
batch()
before = faults()
for _ in range({batches}):
    batch()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc's malloc that is told")
def test_a_batch_takes_the_memory_of_the_one_before() -> None:
    code = _FAULTS.format(batches=BATCHES)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < BATCHES * PAGES_A_BATCH / 10


def test_failures_are_logged_until_they_change_and_end_nothing(
    eventually: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    turns: list[int] = []

    def work() -> None:
        turns.append(len(turns))
        if len(turns) != 3:
            raise OSError("no more files")

    thread = Periodic("test", 0.001, work, "test_failed: again")
    thread.start()
    eventually(lambda: len(turns) > 6)
    thread.stop()
    assert [record.getMessage() for record in caplog.records] == ["test_failed: again"] * 2


def test_a_trigger_begins_the_next_turn_at_once(eventually: Callable[..., Any]) -> None:
    turns: list[None] = []
    thread = Periodic("test", 3600, lambda: turns.append(None), "")
    thread.start()
    eventually(lambda: len(turns) == 1)
    thread.trigger()
    eventually(lambda: len(turns) == 2)
    thread.stop()


def test_a_stop_ends_the_thread() -> None:
    first = threading.Event()
    thread = Periodic("test", 0.001, first.set, "")
    thread.start()
    assert first.wait(30)
    thread.stop(wait_s=30)
    assert not thread._thread.is_alive()


def test_a_fork_does_not_stop_the_thread_of_its_parent() -> None:
    held = threading.Event()
    thread = Periodic("test", 3600, held.wait, "")
    thread.start()

    def stop_in_child() -> int:
        thread.stop()
        return os.getpid()

    try:
        assert run_in_fork(stop_in_child, 20) != os.getpid()
        assert thread._thread.is_alive()
    finally:
        held.set()
        thread.stop()


def test_a_fork_imports_for_itself_what_another_thread_is_importing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It neither waits for that thread, which it does not have, nor takes half of the module."""
    (tmp_path / "slowly_imported.py").write_text("import builtins\nbuiltins.reached()\nvalue = 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    reached, go_on = threading.Event(), threading.Event()
    monkeypatch.setattr("builtins.reached", lambda: (reached.set(), go_on.wait()), raising=False)

    def import_it() -> int:
        return int(importlib.import_module("slowly_imported").value)

    thread = threading.Thread(target=import_it)
    thread.start()
    reached.wait()
    try:

        def work() -> int:
            go_on.set()
            return import_it()

        assert run_in_fork(work, 20) == 7
    finally:
        go_on.set()
        thread.join()
        sys.modules.pop("slowly_imported", None)
