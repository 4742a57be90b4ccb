"""A request whose process died is scored in parts, and answered as if its rows had been scored together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from functools import partial
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest

from scoreline_artifacts import Schema
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_client.options import CsvChunk, Policy, RequestOptions
from scoreline_client.protocol.arrow_tables import encode_frame, read_stream
from scoreline_client.protocol.json_records import predictions_of
from scoreline_client.protocol.keys import Lane
from scoreline_client.protocol.messages import Answer, Codec, Operation, Request, Status, new_id
from scoreline_tasks.queue import recovery
from scoreline_tasks.queue.recovery import Outcome, Rescue, Task, Team, perform
from scoreline_tasks.scoring.batch import Batcher, Entry, Finished
from scoreline_tasks.scoring.limits import Limits
from scoreline_tasks.system import ChildDied, ChildTimedOut
from tests.support.models import Classifier, Predictor
from tests.support.scoring import OneVersion, entry_of

POISON = 13


class Died(BaseException):
    """Stands for the end of the process: nothing but what has started the process notices it."""


class StubQueue:
    """A lane with abandoned requests, and what becomes of them."""

    def __init__(self, *entries: Entry) -> None:
        self.left = list(entries)
        self.finished: list[Finished] = []
        self.letters: list[tuple[Entry, str]] = []

    def claim(self, lane: Lane, *_: int) -> list[Entry]:
        left = [entry for entry in self.left if entry.lane is lane]
        self.left = [entry for entry in self.left if entry.lane is not lane]
        return left

    def look_at(self, *_: Any) -> tuple[int, bool]:
        return 1, False

    def server_time_ms(self) -> int:
        return 1000

    def attempts(self, entries: Sequence[Entry]) -> list[int]:
        return [0] * len(entries)

    def begin_attempt(self, entries: Sequence[Entry]) -> None:
        """Nothing is noted."""

    end_attempt = begin_attempt

    def finish(self, finished: Sequence[Finished]) -> None:
        self.finished += finished

    def add_dead_letter(self, entry: Entry, reason: str) -> None:
        self.letters.append((entry, reason))


class StubLease:
    lease_ms = 1000

    def keep(self, *_: Any) -> None:
        """Nothing is held."""


def rescued(request: Request, loaded: LoadedVersion) -> tuple[Answer | None, StubQueue, int]:
    """What becomes of an abandoned request; also how many processes died of it."""
    batcher = Batcher(OneVersion(loaded), Limits(1 << 24, 100_000))
    entry = entry_of(request, lane=Lane.BULK if request.job else Lane.ONLINE)
    queue: Any = StubQueue(entry)
    lease: Any = StubLease()
    deaths = 0

    def score_apart(
        entries: Sequence[Entry],
        now_ms: int,
        limit_s: float,
        task: Task | None = None,
        **_: float,
    ) -> Outcome:
        nonlocal deaths
        try:
            return perform(batcher, entries, now_ms, task)
        except Died:
            deaths += 1
            raise ChildDied("ended with exit code 1") from None

    Rescue(queue, lease, score_apart, limit_s=60).run()
    answers = [Answer.decode(one.answer) for one in queue.finished]
    return (answers[0] if answers else None), queue, deaths


def deadly(frame: pd.DataFrame) -> Any:
    if (frame["x"] == POISON).any():
        raise Died
    return frame["x"] > 10


def raising(frame: pd.DataFrame) -> Any:
    if (frame["x"] == POISON).any():
        raise ValueError("thirteen")
    return frame["x"] > 10


TRAINED = pd.DataFrame({"x": [float(n) for n in range(40)], "town": ["Bonn", "Köln"] * 20})
SCHEMA = Schema.infer(TRAINED)


def _whole(frame: pd.DataFrame) -> Any:
    return np.where(frame["x"] > 10, 1, 2)


def _mixed(frame: pd.DataFrame) -> Any:
    return np.column_stack([frame["x"].to_numpy().astype(object), frame["town"].to_numpy()])


def _version(kind: str, condition: Any) -> LoadedVersion:
    """A pipeline whose answers are of a kind, and that meets its end where the condition does."""
    if kind == "classes":
        return LoadedVersion.of(Classifier(condition), "m", schema=SCHEMA)
    answer = {"whole": _whole, "mixed": _mixed}[kind]
    predictor = Predictor(lambda frame: (condition(frame), answer(frame))[1])
    return LoadedVersion.of(predictor, "m", schema=SCHEMA)


X = [1.0, 99.0, 13.0, 2.0, None, 13.0, 30.0, 4.0, 20.0]
"""Two fatal rows, one that is rejected, and one that is warned of."""
TOWN = ["Bonn", "Köln", "Bonn", "Rom", "Bonn", "Köln", "Bonn", "Rom", "Köln"]
OPTIONS = RequestOptions(
    outputs=("prediction", "error", "warnings"),
    problems=2,
    first_row=101,
    unseen=Policy.WARN,
    out_of_range=Policy.WARN,
)


def _request(codec: Codec) -> Request:
    request = Request(id=new_id(), model="m", codec=codec, job=new_id())
    if codec is Codec.JSON:
        records = [{"x": x, "town": town} for x, town in zip(X, TOWN, strict=True)]
        rules = replace(OPTIONS, outputs=None, problems=0, first_row=1)
        return replace(request, body=orjson.dumps(records), options=rules.encoded_options)
    if codec is Codec.ARROW:
        (body, *_) = encode_frame(pd.DataFrame({"x": X, "town": TOWN}))
        return replace(request, body=body, options=OPTIONS.encoded_options)
    given = {one.name: getattr(OPTIONS, one.name) for one in fields(OPTIONS)}
    chunk = CsvChunk(columns=("x", "town"), first_line=102, encoding="latin-1", **given)
    lines = [f"{'' if x is None else x};{town}\r\n" for x, town in zip(X, TOWN, strict=True)]
    text = "".join([*lines[:3], "\r\n", *lines[3:]])
    return replace(request, body=replace(chunk, delimiter=";").encode(text.encode("latin-1")))


def _comparable(answer: Answer) -> dict[str, Any]:
    """An answer without what differs in any case: times, and what is said of the fatal rows."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            kept = {key: plain(one) for key, one in value.items()}
            return kept | ({"message": "fatal", "code": "fatal"} if _is_fatal(value) else {})
        return [plain(one) for one in value] if isinstance(value, list) else value

    head = {name: plain(getattr(answer, name)) for name in answer.__dataclass_fields__}
    del head["timings"], head["body"]
    head["rejected"] = {
        code.replace("E_CRASHED", "E_PREDICT"): n for code, n in answer.rejected.items()
    }
    return head


def _is_fatal(details: dict[str, Any]) -> bool:
    return details.get("code") in ("E_CRASHED", "E_PREDICT")


def _lines(answer: Answer) -> list[Any]:
    """The rows of an answer's body, without what is said of the fatal ones."""
    if answer.codec is Codec.ARROW:
        rows = read_stream(answer.body).to_pylist()
        return [{k: "fatal" if "given up" in str(v) or "raised" in str(v) else v for k, v in row.items()} for row in rows]  # fmt: skip
    lines = bytes(answer.body).split(b"\r\n")
    return [
        line.partition(b"E_")[0] if b"given up" in line or b"raised" in line else line
        for line in lines
    ]


@pytest.mark.parametrize("kind", ["classes", "whole", "mixed"])
@pytest.mark.parametrize("codec", list(Codec))
def test_a_row_that_kills_its_process_costs_that_row_in_every_codec(
    codec: Codec, kind: str
) -> None:
    """Its request is answered as if the pipeline had raised for this row: as if all were scored together."""
    request = _request(codec)
    batcher = Batcher(OneVersion(_version(kind, raising)), Limits(1 << 24, 1000))
    expected = Answer.decode(batcher.answer([entry_of(request)], 1000)[0].answer)
    answer, queue, deaths = rescued(request, _version(kind, deadly))
    assert answer is not None
    assert answer.status is Status.OK
    assert _comparable(answer) == _comparable(expected)
    if codec is not Codec.JSON:
        assert _lines(answer) == _lines(expected)
    assert [entry.fields[b"model"] for entry, _ in queue.letters] == [b"m", b"m"]
    assert deaths < 14


@pytest.mark.parametrize("codec", list(Codec))
def test_a_dead_letter_is_a_request_of_the_fatal_record_alone(codec: Codec) -> None:
    _, queue, _ = rescued(_request(codec), _version("classes", deadly))
    for entry, _ in queue.letters:
        batcher = Batcher(OneVersion(_version("classes", raising)), Limits(1 << 24, 1000))
        again = Answer.decode(batcher.answer([entry], 1000)[0].answer)
        assert again.records == 1
        assert list(again.rejected or {again.errors["0"]["code"]: 1}) == ["E_PREDICT"]


def test_a_request_of_one_record_that_is_fatal_is_refused() -> None:
    request = Request(id=new_id(), model="m", body=b'[{"x": 13.0, "town": "Bonn"}]')
    answer, queue, deaths = rescued(request, _version("classes", deadly))
    assert answer is not None
    assert answer.error is not None
    assert (answer.status, answer.error["code"]) == (Status.ERROR, "E_CRASHED")
    assert len(queue.letters) == 1
    assert deaths == 3


def test_rows_that_depend_on_each_other_share_the_error() -> None:
    loaded = replace(_version("classes", deadly), batchable=False)
    answer, queue, _ = rescued(_request(Codec.CSV), loaded)
    assert answer is not None
    assert answer.rejected["E_CRASHED"] == 8
    ((entry, _),) = queue.letters
    assert entry.fields[b"body"] == _request(Codec.CSV).body


def test_records_of_several_callers_are_scored_apart_where_they_depend_on_each_other() -> None:
    loaded = replace(_version("classes", deadly), batchable=False)
    request = replace(_request(Codec.JSON), apart=True, job="")
    answer, _, _ = rescued(request, loaded)
    assert answer is not None
    errors = {index: one["code"] for index, one in answer.errors.items()}
    assert errors == {"2": "E_CRASHED", "4": "E_NULL", "5": "E_CRASHED"}


def test_a_bad_part_does_not_hide_what_probabilities_are_for() -> None:
    records = [{"x": None}, {"x": "a"}, {"x": 5.0, "town": "Bonn"}, {"x": 13.0, "town": "Bonn"}]
    request = Request(id=new_id(), model="m", body=orjson.dumps(records))
    answer, _, _ = rescued(request, _version("classes", deadly))
    assert answer is not None
    *_, good, fatal = predictions_of(answer)
    assert good.probabilities == {"no": 0.25, "yes": 0.75}
    assert fatal.error is not None
    assert fatal.error.code == "E_CRASHED"


def test_a_request_that_kills_its_process_before_anything_is_scored_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def die(*_: Any) -> Any:
        raise Died

    monkeypatch.setattr("scoreline_tasks.scoring.batch.read_records", die)
    answer, queue, deaths = rescued(_request(Codec.JSON), _version("classes", deadly))
    assert answer is not None
    assert answer.error is not None
    assert "reading it killed 2 processes" in answer.error["message"]
    assert (len(queue.letters), deaths) == (1, 3)


def test_a_check_that_kills_its_process_is_refused_and_one_that_does_not_is_answered() -> None:
    request = replace(_request(Codec.CSV), operation=Operation.CHECK)
    answer, queue, deaths = rescued(request, _version("classes", deadly))
    assert answer is not None
    assert (answer.status, queue.letters, deaths) == (Status.OK, [], 0)


def test_a_version_that_kills_every_process_costs_a_bounded_number_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recovery, "FATAL_ROWS", 10)
    records = [{"x": 13.0, "town": "Bonn"}] * 500
    request = Request(id=new_id(), model="m", body=orjson.dumps(records), job=new_id())
    answer, queue, deaths = rescued(request, _version("classes", deadly))
    assert answer is not None
    assert answer.error is not None
    assert answer.error["code"] == "E_CRASHED"
    assert len(queue.letters) == 1
    assert deaths < 40


def test_what_dies_late_and_dies_early_in_turn_is_given_up() -> None:
    """It does not go round: a death counts, however long it took."""
    entry = entry_of(Request(id=new_id(), model="m", body=b'[{"x": 1.0, "town": "Bonn"}]'))
    queue: Any = StubQueue(entry)
    lease: Any = StubLease()
    batcher = Batcher(OneVersion(_version("classes", deadly)), Limits(1 << 24, 1000))
    calls: list[float] = []

    def score_apart(
        entries: Sequence[Entry],
        now_ms: int,
        limit_s: float,
        task: Task | None = None,
        **_: float,
    ) -> Outcome:
        if task is not None and task.rows == (0, 0):
            return perform(batcher, entries, now_ms, task)
        calls.append(limit_s)
        raise ChildTimedOut(limit_s) if limit_s < 60 else ChildDied("ended with exit code 1")

    Rescue(queue, lease, score_apart, limit_s=60).run()
    assert calls == [0.5, 60, 0.5, 60]
    assert len(queue.letters) == 1


class SlowForks:
    """Forks of a clock that only they move: each loads its versions, then scores `row_s` seconds for each row."""

    def __init__(self, *, load_s: float = 0.0, call_s: float = 0.0, hangs: str = "") -> None:
        self._versions = {"m": _version("classes", raising), "cold": _version("classes", raising)}
        self._load_s, self._call_s, self._hangs = load_s, call_s, hangs
        self.now_s, self.count = 0.0, 0
        self.answered_at: dict[str, float] = {}

    def monotonic(self) -> float:
        return self.now_s

    def spend(self, needed_s: float, limit_s: float, *, is_prepared: bool) -> None:
        self.now_s += min(needed_s, limit_s)
        if needed_s > limit_s:
            raise ChildTimedOut(limit_s, is_prepared=is_prepared)

    def __call__(
        self,
        entries: Sequence[Entry],
        now_ms: int,
        limit_s: float,
        task: Task | None = None,
        *,
        load_s: float = 0.0,
    ) -> Outcome:
        self.count += 1
        models = {entry.fields[b"model"].decode() for entry in entries}
        if "cold" in models:
            self.spend(self._load_s, load_s or limit_s, is_prepared=False)
        rows = task.rows if task is not None else (0, 1)
        is_called = rows != (0, 0)
        bodies = b"".join(entry.fields[b"body"] for entry in entries)
        is_hanging = is_called and self._hangs and self._hangs.encode() in bodies
        if is_called:
            self.spend(1e9 if is_hanging else self._call_s, limit_s, is_prepared=True)
        registry: Any = OneVersion(self._versions[models.pop()])
        return perform(Batcher(registry, Limits(1 << 24, 1000)), entries, now_ms, task)


def _rescue_slowly(
    forks: SlowForks, entries: Sequence[Entry], monkeypatch: pytest.MonkeyPatch
) -> dict[str, tuple[float, str]]:
    """When each request was answered, and with which error; there are no dead letters."""
    queue: Any = StubQueue(*entries)
    lease: Any = StubLease()
    answered: dict[str, tuple[float, str]] = {}

    def finish(finished: Sequence[Finished]) -> None:
        for one in finished:
            error = Answer.decode(one.answer).error or {"code": ""}
            answered[one.request_id] = (forks.now_s, error["code"])

    monkeypatch.setattr(queue, "finish", finish)
    monkeypatch.setattr(queue, "server_time_ms", lambda: 1000 + int(forks.now_s * 1000))
    monkeypatch.setattr(recovery, "time", forks)
    Rescue(queue, lease, forks, limit_s=300, load_s=120).run()
    assert queue.letters == []
    return answered


def _online(count: int, model: str = "m") -> list[Entry]:
    body = b'[{"x": 1.0, "town": "Bonn"}]'
    requests = [
        Request(id=new_id(), model=model, body=body, expires_ms=30_000) for _ in range(count)
    ]
    return [entry_of(one, lane=Lane.ONLINE) for one in requests]


@pytest.mark.parametrize("count", [1, 64, 256])
@pytest.mark.parametrize("call_s", [0.4, 0.6, 2.5, 6.0])
def test_forks_that_are_all_slow_answer_everybody_in_time(
    count: int, call_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a first call compiles, or on a busy host: what has taken too long says little about the next limit."""
    forks = SlowForks(call_s=call_s)
    answered = _rescue_slowly(forks, _online(count), monkeypatch)
    assert len(answered) == count
    assert {error for _, error in answered.values()} == {""}
    assert max(at for at, _ in answered.values()) < 30
    assert forks.count < 8


@pytest.mark.parametrize("count", [1, 64])
def test_loading_a_version_counts_against_no_limit_and_keeps_no_other_version_waiting(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cold, warm = _online(count, "cold"), _online(count)
    forks = SlowForks(load_s=15)
    answered = _rescue_slowly(forks, [*cold, *warm], monkeypatch)
    assert {error for _, error in answered.values()} == {""}
    assert max(answered[one.request_id][0] for one in warm) < 1
    assert max(answered[one.request_id][0] for one in cold) < 20


class HangingRows:
    """Forks in which the pipeline hangs for some rows, of a clock that only they move."""

    def __init__(self, rows: int, hangs: Callable[[int], bool]) -> None:
        self._rows, self._hangs = rows, hangs
        self.now_s, self.count = 0.0, 0

    def monotonic(self) -> float:
        return self.now_s

    def __call__(
        self,
        entries: Sequence[Entry],
        now_ms: int,
        limit_s: float,
        task: Task | None = None,
        **_: float,
    ) -> Outcome:
        self.count += 1
        if task is not None and task.rows == (0, 0):
            if task.parts:
                raise AssertionError("it is given up as a whole")
            return Outcome(units=self._rows, is_final=False)
        if task is None or any(self._hangs(row) for row in range(*task.rows)):
            self.now_s += limit_s
            raise ChildTimedOut(limit_s)
        self.now_s += 0.01
        return Outcome(units=self._rows, scores=b"scores", is_final=False)


@pytest.mark.parametrize("every", [1, 2, 10])
def test_a_pipeline_that_hangs_for_many_rows_ends_the_search_within_its_limits(
    every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a service that it asks is down: 10,000 rows are not tried one by one."""
    forks = HangingRows(10_000, lambda row: row % every == 0)
    queue: Any = StubQueue(entry_of(_request(Codec.CSV), lane=Lane.BULK))
    lease: Any = StubLease()
    monkeypatch.setattr(recovery, "time", forks)
    Rescue(queue, lease, forks, limit_s=300).run()
    (answer,) = (Answer.decode(one.answer) for one in queue.finished)
    assert answer.error is not None
    assert answer.error["code"] == "E_CRASHED"
    assert forks.count < 1300
    assert forks.now_s < 3 * 300


def test_a_job_that_is_over_ends_the_search_for_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    forks = HangingRows(10_000, lambda row: row % 10 == 0)
    queue: Any = StubQueue(entry_of(_request(Codec.CSV), lane=Lane.BULK))
    lease: Any = StubLease()
    dropped: list[Entry] = []
    monkeypatch.setattr(queue, "look_at", lambda *_: (1, forks.now_s > 20))
    monkeypatch.setattr(queue, "drop", dropped.append, raising=False)
    monkeypatch.setattr(recovery, "time", forks)
    Rescue(queue, lease, forks, limit_s=300).run()
    assert (len(dropped), queue.finished) == (1, [])
    assert forks.now_s < 40


@pytest.mark.parametrize("died", [1, 2, 3])
def test_kills_from_outside_cost_a_row_a_pause_before_they_cost_its_answer(
    died: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux kills forks first when memory is short; whose fault that was, nobody knows."""
    batcher = Batcher(OneVersion(_version("classes", raising)), Limits(1 << 24, 1000))
    body = b'[{"x": 1.0, "town": "Bonn"}]'
    queue: Any = StubQueue(entry_of(Request(id=new_id(), model="m", body=body)))
    lease: Any = StubLease()
    pauses: list[float] = []
    kills = [0, 0]

    def score_apart(
        entries: Sequence[Entry],
        now_ms: int,
        limit_s: float,
        task: Task | None = None,
        **_: float,
    ) -> Outcome:
        is_row = task is not None and task.rows != (0, 0)
        if task is None or (is_row and kills[is_row] < died):
            kills[is_row] += 1
            raise ChildDied("ended with signal SIGKILL")
        return perform(batcher, entries, now_ms, task)

    monkeypatch.setattr(recovery.time, "sleep", pauses.append)
    Rescue(queue, lease, score_apart, limit_s=60).run()
    assert len(queue.letters) == (died == 3)
    assert pauses == [recovery.KILLED_PAUSE_S] * min(died, 2)


def test_a_request_that_expires_during_its_rescue_is_no_dead_letter() -> None:
    """Its body has the records of neighbours, and nobody died of those."""
    batcher = Batcher(OneVersion(_version("classes", deadly)), Limits(1 << 24, 1000))
    body = orjson.dumps([{"x": x, "town": "Bonn"} for x in (1.0, 13.0, 2.0)])
    entry = entry_of(Request(id=new_id(), model="m", body=body), lane=Lane.ONLINE)
    queue: Any = StubQueue(entry)
    lease: Any = StubLease()

    def score_apart(
        entries: Sequence[Entry],
        now_ms: int,
        limit_s: float,
        task: Task | None = None,
        **_: float,
    ) -> Outcome:
        late_ms = 10**9 if task is not None and task.parts else 0
        try:
            return perform(batcher, entries, now_ms + late_ms, task)
        except Died:
            raise ChildDied("ended with exit code 1") from None

    Rescue(queue, lease, score_apart, limit_s=60).run()
    (answer,) = (Answer.decode(one.answer) for one in queue.finished)
    assert answer.error is not None
    assert answer.error["code"] == "E_EXPIRED"
    assert queue.letters == []


def test_a_server_that_takes_no_writes_is_looked_at_no_more_often() -> None:
    """A look that finds something wakes the others only after a claim, and never its own thread."""
    triggered: list[int] = []
    lease: Any = StubLease()
    team = Team()

    def refuse(*_: Any) -> Any:
        raise ConnectionError("READONLY")

    queue: Any = StubQueue()
    queue.look_for_abandoned = lambda *_: (True, True)
    queue.claim = refuse
    for number in range(3):
        rescue = Rescue(queue, lease, refuse, limit_s=60, team=team)
        rescue.trigger = partial(triggered.append, number)  # type: ignore[method-assign]
        team.rescues.append(rescue)
    for rescue in team.rescues:
        with suppress(ConnectionError):
            rescue.look()
    assert (triggered, team.next_look > 0) == ([], True)
    queue.claim = lambda *_: []
    queue.forget_dead_consumers = lambda: None
    team.next_look = 0.0
    del queue.claim
    queue.left = [entry_of(_request(Codec.CSV))]
    queue.look_at = lambda *_: (1, True)
    queue.drop = lambda *_: None
    team.rescues[0].look()
    assert triggered == [1, 2]


def test_a_version_that_cannot_be_loaded_in_time_is_no_death(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answered = _rescue_slowly(SlowForks(load_s=500), _online(2, "cold"), monkeypatch)
    assert {error for _, error in answered.values()} == {"E_NOT_LOADED"}


def test_a_request_that_met_two_versions_is_scored_anew() -> None:
    first, second = (
        replace(_version("classes", deadly), version=number, pipeline=Classifier(deadly))
        for number in (1, 2)
    )
    registry: Any = OneVersion(first)
    batcher = Batcher(registry, Limits(1 << 24, 1000))
    entry = entry_of(replace(_request(Codec.JSON), job=""), lane=Lane.ONLINE)
    queue: Any = StubQueue(entry)
    lease: Any = StubLease()
    calls = 0

    def score_apart(
        entries: Sequence[Entry],
        now_ms: int,
        limit_s: float,
        task: Task | None = None,
        **_: float,
    ) -> Outcome:
        nonlocal calls
        calls += 1
        if calls == 9:
            batcher._registry = OneVersion(second)  # type: ignore[misc]
        try:
            return perform(batcher, entries, now_ms, task)
        except Died:
            raise ChildDied("ended with exit code 1") from None

    Rescue(queue, lease, score_apart, limit_s=60).run()
    assert queue.finished == []


def test_one_rescue_of_a_worker_looks_for_all_and_all_share_what_it_finds() -> None:
    looks: list[int] = []
    lease: Any = StubLease()
    team = Team()

    def queue_of(number: int) -> Any:
        queue: Any = StubQueue(entry_of(_request(Codec.JSON)))
        queue.left = []
        queue.look_for_abandoned = lambda *_: (looks.append(number), False)
        queue.release = lambda *_: 1
        queue.forget_dead_consumers = lambda: None
        return queue

    def unused(*_: Any) -> Any:
        raise AssertionError

    team.rescues = [
        Rescue(queue_of(number), lease, unused, limit_s=60, team=team) for number in range(3)
    ]
    for rescue in team.rescues:
        rescue.look()
    assert looks == [0]
    team.take_over("w@h/1")
    for rescue in team.rescues:
        rescue.look()
    assert looks[:2] == [0, 0]
    assert not team.dead


@pytest.mark.parametrize("lane", Lane)
def test_a_rescue_of_one_lane_tells_the_others_what_waits_in_the_other(lane: Lane) -> None:
    """Only one of a worker looks; it may always be the one that serves online requests alone."""
    lease: Any = StubLease()
    team = Team()
    queue: Any = StubQueue(replace(entry_of(_request(Codec.JSON)), lane=lane))
    queue.look_for_abandoned = lambda *_: (bool(queue.left), bool(queue.left))
    queue.forget_dead_consumers = lambda: None
    rescued: list[Lane] = []

    def answer(entries: Sequence[Entry], *_: Any, **__: Any) -> Outcome:
        rescued.extend(entry.lane for entry in entries)
        return Outcome([(entry.id, entry.request_id, "", b"") for entry in entries])

    team.rescues = [
        Rescue(queue, lease, answer, limit_s=60, team=team, lanes=lanes)
        for lanes in ((Lane.ONLINE,), tuple(Lane))
    ]
    for rescue in team.rescues:
        rescue.look()
    assert rescued == [lane]
