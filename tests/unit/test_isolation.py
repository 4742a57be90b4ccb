"""The throw-away process: its results come back, its end is not ours."""

import os
import signal
import time

import pytest

from scoreline_tasks.isolation import Died, run_apart


def test_results_come_back_as_they_were() -> None:
    assert run_apart(lambda: [b"", b"a" * 300_000, b"\x00\n"], 10) == [
        b"",
        b"a" * 300_000,
        b"\x00\n",
    ]


def test_the_work_is_done_in_another_process() -> None:
    (pid,) = run_apart(lambda: [str(os.getpid()).encode()], 10)
    assert int(pid) != os.getpid()


def _exit() -> list[bytes]:
    os._exit(0)


def _fault() -> list[bytes]:
    os.kill(os.getpid(), signal.SIGSEGV)
    return []


def _raise() -> list[bytes]:
    raise SystemExit


@pytest.mark.parametrize("end", [_exit, _fault, _raise])
def test_a_process_that_ends_without_an_answer_died(end: object) -> None:
    with pytest.raises(Died, match="without an answer"):
        run_apart(end, 10)  # type: ignore[arg-type]


def test_a_process_that_hangs_is_killed() -> None:
    pids, writer = os.pipe()

    def hang() -> list[bytes]:
        os.write(writer, str(os.getpid()).encode())
        while True:
            time.sleep(1)

    with pytest.raises(Died, match="in time"):
        run_apart(hang, 0.2)
    with pytest.raises(ProcessLookupError):
        os.kill(int(os.read(pids, 20)), 0)
    os.close(pids)
    os.close(writer)
