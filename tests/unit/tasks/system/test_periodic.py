"""A thread that repeats its work until it is stopped, whatever the work raises."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from scoreline_tasks.system.forks import run_in_fork
from scoreline_tasks.system.periodic import Periodic


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
