"""What a main process and its children tell each other: how long a call of a pipeline may take."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace

import pytest

from scoreline_tasks.worker import shared
from scoreline_tasks.worker.shared import FLOOR_S, MANY, CallTimes, Charge, Silence


@pytest.fixture
def times() -> CallTimes:
    times = CallTimes()
    times.cap_s = 300
    return times


def test_a_call_may_take_seconds_where_its_version_is_quick(times: CallTimes) -> None:
    """One record that loops must not silence a worker for as long as a slow version's batch may take."""
    times.note("pima@3", 1, 0.002)
    assert times.limit_s("pima@3", 1) == FLOOR_S
    assert times.limit_s("pima@3", 64) == FLOOR_S


def test_a_call_of_a_slow_version_may_take_as_much_longer_as_it_has_rows(times: CallTimes) -> None:
    times.note("slow@1", 1, 2.0)
    assert times.limit_s("slow@1", 1) == pytest.approx(20)
    assert times.limit_s("slow@1", 5) == pytest.approx(100)
    assert times.limit_s("slow@1", 1000) == 300


def test_a_chunk_is_judged_by_chunks(times: CallTimes) -> None:
    """A lone record costs a call: ten thousand rows do not cost ten thousand of them."""
    times.note("pima@3", 1, 0.005)
    times.note("pima@3", 10_000, 0.2)
    assert times.limit_s("pima@3", 10_000) == FLOOR_S
    times.note("pima@3", MANY, MANY * 0.01)
    assert times.limit_s("pima@3", 1000) == pytest.approx(100)


def test_a_version_that_is_not_known_has_time_for_each_row(times: CallTimes) -> None:
    assert FLOOR_S < times.limit_s("new@1", 1) < 30
    assert times.limit_s("new@1", 100) == 300


def test_the_operators_limit_is_the_longest(times: CallTimes) -> None:
    times.cap_s = 2
    times.note("slow@1", 1, 20.0)
    assert times.limit_s("slow@1", 1) == 2
    assert times.limit_s("quick@1", 1) == 2


def test_one_slow_call_is_forgotten_after_many_quick_ones(times: CallTimes) -> None:
    times.note("pima@3", 1, 30)
    for _ in range(10_000):
        times.note("pima@3", 1, 0.001)
    assert times.limit_s("pima@3", 1) == FLOOR_S


def test_a_child_is_overdue_while_its_call_takes_too_long(
    times: CallTimes, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(shared, "time", SimpleNamespace(monotonic=lambda: clock.now))
    times.note("pima@3", 1, 0.001)
    times.watch(7)
    with times.timed("pima@3", 1) as next_call:
        clock.now += FLOOR_S - 1
        assert not times.is_overdue(7, os.getpid())
        next_call()
        clock.now += FLOOR_S - 1
        assert not times.is_overdue(7, os.getpid())
        clock.now += 2
        assert times.is_overdue(7, os.getpid())
        assert not times.is_overdue(7, os.getpid() + 1), "of a child that is gone"
    assert not times.is_overdue(7, os.getpid())


def test_a_process_that_nobody_watches_has_no_limit(times: CallTimes) -> None:
    with times.timed("pima@3", 1):
        pass
    assert not any(times._until)


def test_a_drain_that_is_not_in_charge_promises_nothing() -> None:
    charge = Charge()
    first, second = charge.expect_next(), charge.expect_next()
    assert charge.begin(first)
    assert charge.begin(second)
    assert not charge.begin(first)
    charge.wait(-1)
    charge.promise(first, 60)
    assert charge.is_overdue
    charge.promise(second, 60)
    assert not charge.is_overdue


def test_a_drain_that_could_not_be_sent_takes_nothing_from_the_one_in_charge() -> None:
    charge = Charge()
    first = charge.expect_next()
    charge.begin(first)
    second = charge.expect_next()
    assert charge.is_held_by(first)
    assert not charge.is_expected(first)
    charge.expect_none(1)
    assert charge.is_expected(first)
    assert not charge.begin(second), "its message may have arrived all the same"
    assert charge.expect_next() not in (first, second)


def test_silence_is_about_connections_that_were_made_before() -> None:
    silence = Silence()
    before = time.monotonic()
    assert not silence.was_after(before)
    silence.note(0.0)
    assert silence.was_after(before)
    assert not silence.was_after(time.monotonic())
    silence.note(60.0)
    assert not silence.was_after(before), "these are new, and cannot have been silent for so long"
