"""What a main process and its children tell each other: how long a call of a pipeline may take."""

from __future__ import annotations

import os
import threading
import time
from types import SimpleNamespace
from typing import Any

import orjson
import pandas as pd
import pytest

from scoreline_artifacts import Schema
from scoreline_artifacts.loading.process_settings import _gate, exclusively
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_client.protocol.messages import Request
from scoreline_tasks.scoring.batch import Batcher
from scoreline_tasks.scoring.limits import Limits
from scoreline_tasks.system import _fork_lock, fork_guard
from scoreline_tasks.worker import shared
from scoreline_tasks.worker.shared import FLOOR_S, LONGER, MANY, CallTimes, Charge, Silence
from tests.support.models import Predictor, column_x
from tests.support.scoring import OneVersion, entry_of

SCHEMA = Schema.infer(pd.DataFrame({"x": [1.5, 9.5]}))


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
    with times.timed("pima@3", 1) as call:
        clock.now += FLOOR_S - 1
        assert not times.is_overdue(7, os.getpid())
        call.begin_next()
        clock.now += FLOOR_S - 1
        assert not times.is_overdue(7, os.getpid())
        clock.now += 2
        assert times.is_overdue(7, os.getpid())
        assert not times.is_overdue(7, os.getpid() + 1), "of a child that is gone"
    assert not times.is_overdue(7, os.getpid())


@pytest.mark.parametrize("what", ["gate", "alone", "guard"])
def test_a_call_has_all_its_time_when_it_has_waited_for_a_load(
    times: CallTimes, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """What another thread of the process loads is not the call's fault, and would be lost with the process."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(shared, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(_gate(), "waiting", times.waiting)
    monkeypatch.setattr(_fork_lock(), "waiting", times.waiting)
    times.note("pima@3", 1, 0.001)
    waits_for = {"gate": _gate().shared, "alone": _gate().exclusive, "guard": fork_guard}[what]
    loading, loaded = threading.Event(), threading.Event()
    overdue = {}

    def load() -> None:
        with fork_guard() if what == "guard" else exclusively():
            loading.set()
            loaded.wait(10)

    def score() -> None:
        times.watch(7)
        with times.timed("pima@3", 1) as call:
            clock.now += 1
            with waits_for():
                overdue["just begun"] = times.is_overdue(7, os.getpid())
                clock.now += FLOOR_S + 1
                overdue["too long"] = times.is_overdue(7, os.getpid())
            call.note()

    loader = threading.Thread(target=load, daemon=True)
    loader.start()
    assert loading.wait(10)
    scorer = threading.Thread(target=score, daemon=True)
    scorer.start()
    give_up_at = time.monotonic() + 10
    # Its limit is the longest as soon as it waits.
    while times._until[7] < clock.now + times.cap_s and time.monotonic() < give_up_at:
        time.sleep(0.001)
    clock.now += 7 * FLOOR_S
    assert not times.is_overdue(7, os.getpid())
    with times.waiting():
        pass  # in another thread, which the limit is not about
    loaded.set()
    scorer.join(10)
    loader.join(10)
    assert overdue == {"just begun": False, "too long": True}
    assert times._row_s[shared._slots("pima@3")[0]] < FLOOR_S + 3, "the wait is not noted"


def first_calls(times: CallTimes, needs_s: float, clock: SimpleNamespace) -> int:
    """How many children are ended before one has made its first call of a version, which needs so long."""
    for ended in range(20):
        times._called.clear()
        times.watch(7)
        call = times.timed("warm@1", 1).__enter__()
        clock.now += needs_s
        if times.is_overdue(7, os.getpid()):
            times.note_ended(7)
            continue
        call.note()
        call.__exit__(None, None, None)
        return ended
    return 20


def test_a_version_that_needs_long_once_in_each_process_ends_few_of_them(
    times: CallTimes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code that is compiled at the first call takes its time again after every release and restart."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(shared, "time", SimpleNamespace(monotonic=lambda: clock.now))
    assert first_calls(times, 45.0, clock) == 3
    assert first_calls(times, 45.0, clock) == 0
    for _ in range(10_000):
        times.note("warm@1", 1, 0.005)
    assert times.limit_s("warm@1", 1) == FLOOR_S, "its other calls are quick"
    assert first_calls(times, 45.0, clock) == 0
    assert first_calls(times, 400.0, clock) == 20, "the operator's limit is the longest"
    for _ in range(10):
        assert first_calls(times, 0.1, clock) == 0
    times._called.clear()
    assert times.limit_s("warm@1", 1) < 6, "what never returned is forgotten"


def test_a_batch_with_a_bad_row_says_nothing_of_how_long_rows_take(
    times: CallTimes, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(shared, "time", SimpleNamespace(monotonic=lambda: clock.now))

    def slow_and_strict(frame: Any) -> Any:
        clock.now += 0.01 * len(frame)
        if (frame["x"] == 13).any():
            raise ValueError("13")
        return column_x(frame)

    def limit_after(*rows: float) -> float:
        fresh = CallTimes()
        loaded = LoadedVersion.of(Predictor(slow_and_strict), "m", 3, SCHEMA)
        batcher = Batcher(OneVersion(loaded), Limits(1 << 20, 10_000), fresh.timed)
        body = orjson.dumps([{"x": value} for value in rows])
        batcher.answer([entry_of(Request(id="1" * 32, model="m", body=body), b"1000-0")], 1000)
        return fresh.limit_s("m@3", 1024)

    good = [1.0] * 1024
    assert limit_after(*good) == pytest.approx(LONGER * 0.01 * 1024)
    unknown = CallTimes().limit_s("m@3", 1024)
    assert limit_after(*good[1:], 13) == unknown
    assert limit_after(13) == unknown


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


def test_no_drain_is_in_charge_of_a_worker_that_is_told_to_end() -> None:
    charge = Charge()
    number = charge.expect_next()
    assert charge.begin(number)
    charge.end()
    assert not charge.is_held_by(number)
    charge.promise(number, -1.0)
    assert not charge.is_overdue
    assert not charge.begin(number)
    assert not charge.begin(charge.expect_next())


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
