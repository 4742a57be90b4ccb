"""A request whose process died is scored in parts, and answered as if its rows had been scored together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
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
    """A lane with one abandoned request, and what becomes of it."""

    def __init__(self, entry: Entry) -> None:
        self.left = [entry]
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
        entries: Sequence[Entry], now_ms: int, limit_s: float, task: Task | None = None
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
        entries: Sequence[Entry], now_ms: int, limit_s: float, task: Task | None = None
    ) -> Outcome:
        if task is not None and task.rows == (0, 0):
            return perform(batcher, entries, now_ms, task)
        calls.append(limit_s)
        raise ChildTimedOut(limit_s) if limit_s < 60 else ChildDied("ended with exit code 1")

    Rescue(queue, lease, score_apart, limit_s=60).run()
    assert calls == [0.5, 60, 0.5, 60]
    assert len(queue.letters) == 1


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
        entries: Sequence[Entry], now_ms: int, limit_s: float, task: Task | None = None
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
        queue.abandoned = lambda *_: looks.append(number)
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
