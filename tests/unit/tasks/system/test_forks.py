"""Throw-away forks, of which nothing remains, and freed memory that a process keeps for its next batch."""

import faulthandler
import os
import platform
import signal
import subprocess
import sys
import time

import psutil
import pytest

from scoreline_tasks.system.forks import ChildDied, run_in_fork


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
from scoreline_tasks.system.forks import keep_freed

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
