"""Throw-away processes come from a process that has scored nothing, whoever asks for them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pandas as pd
import pytest

from scoreline_artifacts import Store
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_client.protocol.messages import Answer, Request, new_id
from scoreline_tasks.models.isolated_load import (
    IsolatedLoad,
    IsolatedLoadFailed,
    ServedBy,
    TrialResult,
)
from scoreline_tasks.queue.recovery import Part, Task
from scoreline_tasks.scoring.batch import Batcher, Entry
from scoreline_tasks.scoring.limits import Limits
from scoreline_tasks.system import ChildDied, ChildTimedOut, run_in_fork
from scoreline_tasks.worker.nursery import Nursery
from tests.support.models import Predictor
from tests.support.scoring import OneVersion, entry_of


class Trial(IsolatedLoad):
    """Finds odd versions fit, and refuses even ones; counts how often it is asked."""

    def run(self, store: Store, model: str, version: int, *, gives_way: bool = True) -> TrialResult:
        with Path(os.environ["TRIALS"]).open("a") as file:
            file.write(f"{version}\n")
        if version % 2 == 0:
            raise IsolatedLoadFailed("it is even")
        return TrialResult(imports=[str(os.getpid())])


def _answer(frame: pd.DataFrame) -> npt.NDArray[Any]:
    if (frame["x"] == 13).any():
        os._exit(3)
    if (frame["x"] == 14).any():
        time.sleep(60)
    if (frame["x"] == 15).any():
        np.ones(1 << 30)  # 8 GiB
    return np.full(len(frame), os.getpid())


def _entry(number: int) -> Entry:
    body = orjson.dumps([{"x": number}])
    return entry_of(Request(id=new_id(), model="m", body=body, expires_ms=60_000))


@pytest.fixture
def nursery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nursery]:
    """The nursery of a worker whose main process is this one, and whose children are forks of it."""
    monkeypatch.setenv("TRIALS", str(tmp_path / "trials"))
    nursery = Nursery(Store(tmp_path), Trial(10, 1 << 30), 256 << 20)
    version = LoadedVersion.of(Predictor(_answer), "m")
    nursery.batcher = Batcher(OneVersion(version), Limits(1 << 20, 1000))
    nursery.start()
    yield nursery
    nursery.stop()


def _in_child(work: Callable[[], Any]) -> Any:
    return run_in_fork(work, 30)


def test_a_child_has_requests_scored_in_a_fork_that_is_not_its_own(nursery: Nursery) -> None:
    def work() -> list[Any]:
        ((_, _, _, data),) = nursery.score([_entry(1)], 1000, 20).answers
        return [os.getpid(), *Answer.decode(data).values]

    child, scorer = _in_child(work)
    assert len({child, scorer, os.getpid()}) == 3


def test_a_child_learns_how_the_fork_ended(nursery: Nursery) -> None:
    def work() -> list[str]:
        reasons = []
        for number, limit_s in ((13, 20.0), (14, 0.2)):
            try:
                nursery.score([_entry(number)], 1000, limit_s)
            except ChildTimedOut as late:
                reasons.append(f"late {late.limit_s}")
            except ChildDied as death:
                reasons.append(death.reason)
        return reasons

    assert _in_child(work) == ["ended with exit code 3", "late 0.2"]


def test_a_version_is_tried_once_for_all_children(nursery: Nursery, tmp_path: Path) -> None:
    def work() -> list[Any]:
        outcomes: list[Any] = nursery.prove(Store(tmp_path), "m", 1).imports
        try:
            nursery.prove(Store(tmp_path), "m", 2)
        except IsolatedLoadFailed as refusal:
            outcomes.append(str(refusal))
        return outcomes

    for _ in range(2):
        assert _in_child(work) == [str(os.getpid()), "it is even"]
    assert (tmp_path / "trials").read_text().split() == ["1", "2"]


def test_the_process_that_forks_tries_again_what_was_refused(
    nursery: Nursery, tmp_path: Path
) -> None:
    for _ in range(2):
        with pytest.raises(IsolatedLoadFailed, match="even"):
            nursery.prove(Store(tmp_path), "m", 2)
    assert (tmp_path / "trials").read_text().split() == ["2", "2"]


def test_who_goes_away_leaves_no_fork_behind(
    nursery: Nursery, tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    def forks() -> set[str]:
        tasks = Path("/proc/self/task").glob("*/children")
        return {child for task in tasks for child in task.read_text().split()}

    before = forks()  # such as the clean room's interpreter, which an earlier test has started
    with pytest.raises(ChildTimedOut):
        run_in_fork(lambda: nursery.score([_entry(14)], 1000, 60) and None, 0.5)
    assert eventually(lambda: forks() <= before)


def test_a_stranger_stops_nobody(nursery: Nursery, tmp_path: Path) -> None:
    address = nursery._listener.address
    with pytest.raises(AuthenticationError):
        Client(address, "AF_UNIX", authkey=b"wrong")
    with Client(address, "AF_UNIX"):  # it says nothing
        assert _in_child(lambda: nursery.prove(Store(tmp_path), "m", 1).imports)


def test_a_process_that_forks_no_more_is_said_to_be_gone(
    nursery: Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its socket still accepts: the other processes have it open as well."""
    monkeypatch.setattr("scoreline_tasks.worker.nursery.GREETING_S", 0.2)
    silent = Listener(None, "AF_UNIX")
    monkeypatch.setattr(nursery, "_listener", silent)

    def refusal() -> str:
        with pytest.raises(IsolatedLoadFailed) as caught:
            nursery.prove(Store(tmp_path), "m", 1)
        return str(caught.value)

    with silent:
        assert "does not answer" in _in_child(refusal)


def test_a_request_that_takes_all_memory_costs_itself(nursery: Nursery) -> None:
    def work() -> list[Any]:
        answers = nursery.score([_entry(15), _entry(1)], 1000, 20).answers
        return [Answer.decode(data).errors for _, _, _, data in answers]

    bomb, neighbour = _in_child(work)
    assert (bomb["0"]["code"], neighbour) == ("E_PREDICT", {})
    assert "MemoryError" in bomb["0"]["message"]


def test_rows_of_a_request_are_scored_apart_for_a_child(nursery: Nursery) -> None:
    body = orjson.dumps([{"x": 1}, {"x": 13}, {"x": 2}])
    entry = entry_of(Request(id=new_id(), model="m", body=body, expires_ms=60_000))

    def work() -> list[Any]:
        counted = nursery.score([entry], 1000, 20, Task())
        parts = [
            Part(row, row + 1, nursery.score([entry], 1000, 20, Task((row, row + 1))).scores)
            for row in (0, 2)
        ]
        parts.insert(1, Part(1, 2, reason="it died"))
        done = nursery.score([entry], 1000, 20, Task(parts=tuple(parts)))
        answer = Answer.decode(done.answers[0][3])
        return [
            counted.units,
            [bool(value) for value in answer.values],
            answer.errors,
            done.letters,
        ]

    units, answered, errors, letters = _in_child(work)
    assert (units, answered) == (3, [True, False, True])
    assert (list(errors), letters) == (["1"], [b'[{"x":13}]'])


def test_the_process_that_forks_is_forked_anew_when_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., Any]
) -> None:
    monkeypatch.setenv("TRIALS", str(tmp_path / "trials"))
    trial = Trial(10, 1 << 30, served_by=ServedBy.MAIN_THREAD)
    nursery = Nursery(Store(tmp_path), trial, 256 << 20)
    nursery.start()
    try:
        (first,) = nursery.prove(Store(tmp_path), "m", 1).imports
        os.kill(int(first), signal.SIGKILL)
        (second,) = nursery.prove(Store(tmp_path), "m", 3).imports
        assert second not in (first, str(os.getpid()))
    finally:
        nursery.stop()
        nursery._listener.close()
    eventually(lambda: not Path(f"/proc/{second}").exists())


def test_a_fork_that_cannot_be_made_is_no_end_of_the_process_that_forks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No request is to blame for the limit of processes: a rescue counts an EOFError, and no OSError."""

    def fail(*_: Any, **__: Any) -> Any:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("scoreline_tasks.worker.nursery.score_here", fail)
    monkeypatch.setenv("TRIALS", str(tmp_path / "trials"))
    trial = Trial(10, 1 << 30, served_by=ServedBy.THREADS)
    nursery = Nursery(Store(tmp_path), trial, 256 << 20)
    version = LoadedVersion.of(Predictor(_answer), "m")
    nursery.batcher = Batcher(OneVersion(version), Limits(1 << 20, 1000))
    nursery.start()
    try:
        with pytest.raises(OSError, match="temporarily unavailable"):
            nursery.score([_entry(1)], 1000, 20)
    finally:
        nursery.stop()
        nursery._listener.close()
