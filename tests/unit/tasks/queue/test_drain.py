"""The drain on fakeredis: real streams and scripts, no processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pandas as pd
import pytest
from redis import Redis
from redis import exceptions as redis_errors

from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_client.protocol.keys import Keys, Lane
from scoreline_client.protocol.messages import (
    Answer,
    Codec,
    ModelRef,
    Operation,
    Request,
    Status,
    StoredNote,
    decode_reply,
    new_id,
)
from scoreline_client.settings import ClientSettings
from scoreline_client.testing import FakeRedisServer
from scoreline_tasks.queue import drain as drain_module
from scoreline_tasks.queue import streams
from scoreline_tasks.scoring.batch import Seldom, VersionIsLoading
from scoreline_tasks.testing import InProcessWorker
from tests.support.models import Predictor
from tests.support.worker import enqueue

KEYS = Keys("default")


class Doubler(Predictor):
    """Doubles x, unless one of them is 13."""

    def __init__(self) -> None:
        super().__init__(self._double)

    def _double(self, frame: pd.DataFrame) -> npt.NDArray[Any]:
        if (frame["x"] == 13).any():
            raise ValueError("unlucky")
        return np.asarray(frame["x"] * 2)


@pytest.fixture
def doubler() -> Doubler:
    return Doubler()


@pytest.fixture
def redis() -> Iterator[Redis]:
    with FakeRedisServer().client() as client:
        yield client


@pytest.fixture
def worker(redis: Redis, doubler: Doubler) -> InProcessWorker:
    return InProcessWorker(redis, ClientSettings(), models={"doubler": doubler, "other": Doubler()})


def ask(redis: Redis, records: object, lane: Lane = Lane.ONLINE, **fields: Any) -> Request:
    body = records if isinstance(records, bytes) else orjson.dumps(records)
    request = Request(**{"id": new_id(), "model": "doubler", "body": body, **fields})
    enqueue(redis, request, lane)
    return request


def result(redis: Redis, request: Request) -> Answer:
    data = redis.get(KEYS.result(request.id))
    assert isinstance(data, bytes), "there is no answer"
    return Answer.decode(data)


def test_requests_that_wait_together_are_scored_in_one_call(
    redis: Redis, worker: InProcessWorker, doubler: Doubler
) -> None:
    asked = [ask(redis, [{"x": number}, {"x": number + 100}]) for number in range(10)]
    assert worker.step() == 10
    assert doubler.sizes == [20]
    assert [result(redis, one).values for one in asked] == [[2 * n, 2 * n + 200] for n in range(10)]


@pytest.mark.parametrize(("apart", "sizes"), [(True, [1, 1, 1]), (False, [3])])
def test_records_of_different_callers_are_not_mixed_where_company_matters(
    redis: Redis, worker: InProcessWorker, *, apart: bool, sizes: list[int]
) -> None:
    shy = Doubler()
    worker.serve(replace(LoadedVersion.of(shy, "shy"), batchable=False))
    asked = ask(redis, [{"x": 1}, {"x": 13}, {"x": 3}], model="shy", apart=apart)
    worker.step()
    assert shy.sizes == sizes
    answer = result(redis, asked)
    if apart:
        assert answer.values == [2, None, 6]
        assert answer.errors["1"]["code"] == "E_PREDICT"


def test_reads_are_as_large_as_the_requests_of_the_last_one_were(
    redis: Redis, worker: InProcessWorker, doubler: Doubler
) -> None:
    many = [{"x": one} for one in range(20, 276)]
    for _ in range(6):
        ask(redis, many)
    while worker.step():
        pass
    assert doubler.sizes == [6 * 256]
    doubler.sizes.clear()
    for _ in range(5):
        ask(redis, many)
    while worker.step():
        pass
    assert doubler.sizes == [512, 512, 256]


def test_requests_of_different_models_do_not_mix(
    redis: Redis, worker: InProcessWorker, doubler: Doubler
) -> None:
    here, there = ask(redis, [{"x": 1}]), ask(redis, [{"x": 2}], model="other")
    worker.step()
    assert doubler.sizes == [1]
    assert (result(redis, here).model, result(redis, there).model) == ("doubler", "other")


def test_a_record_that_makes_the_pipeline_raise_does_not_fail_its_neighbours(
    redis: Redis, worker: InProcessWorker
) -> None:
    good, bad = ask(redis, [{"x": 1}]), ask(redis, [{"x": 2}, {"x": 13}])
    worker.step()
    assert result(redis, good).values == [2]
    answer = result(redis, bad)
    assert answer.values == [4, None]
    assert answer.errors["1"]["code"] == "E_PREDICT"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"body": b"[{"}, "E_JSON"),
        ({"body": b'{"x": 1}'}, "E_WIRE"),
        ({"body": b"[]"}, "E_EMPTY_REQUEST"),
        ({"model": "nobody"}, "E_UNKNOWN_MODEL"),
        ({"model": "doubler@7"}, "E_UNKNOWN_MODEL"),
        ({"model": "doubler@candidate"}, "E_UNKNOWN_MODEL"),
        ({"model": "../etc"}, "E_UNKNOWN_MODEL"),
        ({"body": b"[" + b" " * 20_000_000 + b"]"}, "E_TOO_LARGE"),
        ({"body": b"[" + b"1," * 100_000 + b"1]"}, "E_TOO_LARGE"),
        ({"expires_ms": 0}, "E_EXPIRED"),
        ({"codec": Codec.ARROW, "body": b"no arrow"}, "E_ARROW_INVALID"),
    ],
)
def test_a_request_that_cannot_be_scored_says_why_and_costs_nobody_an_answer(
    redis: Redis, worker: InProcessWorker, fields: dict[str, Any], code: str
) -> None:
    good = ask(redis, [{"x": 1}])
    bad = ask(redis, fields.pop("body", [{"x": 1}]), **fields)
    worker.step()
    assert result(redis, good).values == [2]
    answer = result(redis, bad)
    assert answer.status is Status.ERROR
    assert answer.error is not None
    assert answer.error["code"] == code


@pytest.mark.parametrize(
    "fields",
    [
        {b"id": b"no id"},
        {b"wire": b"2", b"id": b"0" * 32, b"model": b"doubler"},
        {b"wire": b"1", b"id": b"a" * 32, b"model": b"doubler", b"reply_to": b"celery"},
        {b"wire": b"1", b"id": b"a" * 32, b"model": b"doubler", b"notify": b"celery"},
        {b"wire": b"1", b"id": b"a" * 32, b"model": b"doubler", b"expires_ms": b"soon"},
        {b"wire": b"1", b"id": b"a" * 32, b"model": b"\xff"},
        {b"noise": b"\xff"},
    ],
)
def test_noise_in_the_lane_is_taken_out_and_harms_nobody(
    redis: Redis, worker: InProcessWorker, fields: dict[Any, Any]
) -> None:
    redis.xadd(KEYS.lane(Lane.ONLINE), fields)
    good = ask(redis, [{"x": 1}])
    worker.step()
    assert result(redis, good).values == [2]
    assert redis.xlen(KEYS.lane(Lane.ONLINE)) == 0
    assert redis.exists("celery") == 0


def test_the_first_answer_to_an_id_stays(redis: Redis, worker: InProcessWorker) -> None:
    first = ask(redis, [{"x": 1}])
    again = ask(redis, [{"x": 2}], id=first.id, reply_to=new_id())
    worker.step()
    assert result(redis, first).values == [2]
    assert redis.exists(KEYS.reply(again.reply_to)) == 0


def test_an_answer_goes_to_the_reply_list_of_its_caller(
    redis: Redis, worker: InProcessWorker
) -> None:
    request = ask(redis, [{"x": 1}], reply_to=new_id())
    worker.step()
    (reply,) = redis.lrange(KEYS.reply(request.reply_to), 0, -1)  # type: ignore[misc]
    assert Answer.decode(reply) == result(redis, request)


def test_who_submitted_a_job_is_told_that_its_answer_is_stored(
    redis: Redis, worker: InProcessWorker
) -> None:
    client = new_id()
    good, bad = (ask(redis, [{"x": 1}], notify=client, **more) for more in ({}, {"model": "none"}))
    worker.step()
    assert result(redis, good).values == [2]
    assert result(redis, bad).status is Status.ERROR
    notes: Any = redis.lrange(KEYS.reply(client), 0, -1)
    assert {decode_reply(note) for note in notes} == {StoredNote(good.id), StoredNote(bad.id)}


def test_online_requests_are_answered_before_a_bulk_chunk_that_came_first(
    redis: Redis, worker: InProcessWorker, doubler: Doubler
) -> None:
    ask(redis, [{"x": 1}] * 5, lane=Lane.BULK)
    ask(redis, [{"x": 1}])
    worker.step()
    worker.step()
    assert doubler.sizes == [1, 5]


def test_nothing_stays_behind_in_the_lanes(redis: Redis, worker: InProcessWorker) -> None:
    for lane in Lane:
        ask(redis, [{"x": 1}], lane=lane)
    while worker.step():
        pass
    assert [redis.xlen(KEYS.lane(lane)) for lane in Lane] == [0, 0]


def test_describe_names_the_version(redis: Redis, worker: InProcessWorker) -> None:
    request = ask(redis, b"", operation=Operation.DESCRIBE)
    worker.step()
    answer = result(redis, request)
    assert (answer.model, answer.version) == ("doubler", 1)
    assert answer.description == {
        "columns": [],
        "outputs": {"classes": None, "probabilities": False},
    }


def test_a_worker_without_a_store_serves_nothing_and_says_so(redis: Redis, tmp_path: Path) -> None:
    worker = InProcessWorker(redis, ClientSettings(), store=tmp_path)
    request = ask(redis, [{"x": 1}])
    worker.step()
    assert result(redis, request).error is not None


def test_a_chunk_whose_job_is_alive_is_scored(redis: Redis, worker: InProcessWorker) -> None:
    job = new_id()
    redis.zadd(KEYS.jobs, {job: 1e15})
    request = ask(redis, [{"x": 1}], Lane.BULK, job=job)
    worker.step()
    assert result(redis, request).values == [2]
    ttl: Any = redis.pttl(KEYS.result(request.id))
    assert 0 < ttl <= 60_000


@pytest.mark.parametrize("lease", [None, 1.0])
def test_a_chunk_whose_client_is_gone_leaves_without_a_trace(
    redis: Redis, worker: InProcessWorker, doubler: Doubler, lease: float | None
) -> None:
    job = new_id()
    if lease is not None:
        redis.zadd(KEYS.jobs, {job: lease})
    request = ask(redis, [{"x": 1}], Lane.BULK, job=job, reply_to="a" * 32)
    other = ask(redis, [{"x": 3}], Lane.BULK)
    while worker.step():
        pass
    assert doubler.sizes == [1]
    assert result(redis, other).values == [6]
    assert redis.xlen(KEYS.lane(Lane.BULK)) == 0
    assert redis.exists(KEYS.result(request.id), KEYS.reply("a" * 32)) == 0


@pytest.mark.parametrize("lane", list(Lane))
def test_a_job_that_is_no_id_is_refused(
    redis: Redis, worker: InProcessWorker, doubler: Doubler, lane: Lane
) -> None:
    request = ask(redis, [{"x": 1}], lane, job="7")
    worker.step()
    answer = result(redis, request)
    assert answer.error == {"code": "E_WIRE", "message": 'job "7" is not 32 hexadecimal digits'}
    assert doubler.sizes == []


def test_the_job_of_an_online_request_is_not_looked_at(
    redis: Redis, worker: InProcessWorker
) -> None:
    request = ask(redis, [{"x": 1}], job=new_id())
    worker.step()
    assert result(redis, request).values == [2]


def test_chunks_that_are_dropped_leave_a_line_now_and_then(
    redis: Redis,
    worker: InProcessWorker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(streams, "_dropped", Seldom(10.0, lambda: 0.0))
    job = new_id()
    request, _ = (ask(redis, [{"x": 1}], Lane.BULK, job=job) for _ in range(2))
    while worker.step():
        pass
    (line,) = [one for one in caplog.messages if one.startswith("request_dropped")]
    assert f"job={job} request={request.id} entry=" in line


def test_online_requests_go_before_chunks_that_came_first(
    redis: Redis, worker: InProcessWorker, doubler: Doubler
) -> None:
    for _ in range(3):
        ask(redis, [{"x": 1}, {"x": 2}], Lane.BULK)
    for _ in range(3):
        ask(redis, [{"x": 3}])
    while worker.step():
        pass
    assert doubler.sizes == [3, 2, 2, 2]


def test_online_requests_are_answered_while_a_chunk_takes_many_calls(
    redis: Redis, worker: InProcessWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain_module, "PAUSE_MS", 0)
    order: list[str] = []

    def bulk(frame: pd.DataFrame) -> npt.NDArray[Any]:
        if not order:
            ask(redis, [{"x": 1}], model="online")
        order.append("bulk")
        if (frame["x"] == 63).any():
            raise ValueError("unlucky")
        return np.asarray(frame["x"])

    def online(frame: pd.DataFrame) -> npt.NDArray[Any]:
        order.append("online")
        return np.asarray(frame["x"])

    worker.serve(LoadedVersion.of(Predictor(bulk), "bulk"))
    worker.serve(LoadedVersion.of(Predictor(online), "online"))
    chunk = ask(redis, [{"x": number} for number in range(64)], Lane.BULK, model="bulk")
    worker.step()
    assert order.index("online") == 1
    assert order.count("online") == 1
    assert list(result(redis, chunk).errors) == ["63"]


@pytest.fixture
def loading(worker: InProcessWorker, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that are being loaded, for as long as they stand in the list."""
    models: list[str] = []
    resolve = worker._models.resolve

    def resolve_unless_loading(ref: ModelRef, asked_at: float) -> LoadedVersion:
        if ref.name in models:
            raise VersionIsLoading(ref.name)
        return resolve(ref, asked_at)

    monkeypatch.setattr(worker._models, "resolve", resolve_unless_loading)
    return models


def test_a_request_waits_for_its_version_and_the_others_do_not(
    redis: Redis, worker: InProcessWorker, loading: list[str]
) -> None:
    loading.append("other")
    postponed = ask(redis, [{"x": 1}], model="other")
    for number in range(3):
        asked = ask(redis, [{"x": number}])
        worker.step()
        assert result(redis, asked).values == [2 * number]
    assert redis.get(KEYS.result(postponed.id)) is None
    assert worker._drain.has_postponed
    loading.clear()
    worker._drain.answer_postponed(20)
    assert result(redis, postponed).values == [2]
    assert not worker._drain.has_postponed


def test_a_request_that_waits_for_its_version_is_refused_when_its_time_or_that_of_the_drain_is_over(
    redis: Redis, worker: InProcessWorker, loading: list[str]
) -> None:
    loading.append("other")
    short = ask(redis, [{"x": 1}], model="other", expires_ms=1)
    long = ask(redis, [{"x": 1}], model="other")
    worker.step()
    worker._drain.answer_postponed(0)
    errors = [result(redis, one).error or {} for one in (short, long)]
    assert [error["code"] for error in errors] == ["E_EXPIRED", "E_NOT_LOADED"]
    assert "still being loaded" in errors[1]["message"]


def test_a_process_that_is_told_to_end_hands_over_what_waits_for_its_version(
    redis: Redis, worker: InProcessWorker, loading: list[str]
) -> None:
    loading.append("other")
    postponed = ask(redis, [{"x": 1}], model="other")
    worker.step()
    worker._drain.answer_postponed(20, lambda: True)
    assert not worker._drain.has_postponed
    assert redis.get(KEYS.result(postponed.id)) is None
    lease_ms = worker._drain._lease.lease_ms
    # The fake tells idle times apart by less than a millisecond, and a lease is some thousand of them.
    assert worker._drain._queue.look_for_abandoned(lease_ms - 10) == (True, True)


def test_requests_that_are_released_are_renewed_no_more(
    redis: Redis, worker: InProcessWorker, loading: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where Redis was lost, another process serves next, and takes them over when their lease is over."""
    loading.append("other")
    ask(redis, [{"x": 1}], model="other")
    worker.step()
    worker._drain.interrupt()
    renewed: list[object] = []
    monkeypatch.setattr(worker._drain._lease._queue, "renew", renewed.append)
    worker._drain._lease.renew()
    assert not worker._drain.has_postponed
    assert renewed in ([], [()])


def test_redis_that_is_lost_while_a_batch_takes_many_calls_is_no_fault_of_the_batch(
    worker: InProcessWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def lost(_finished: object, take: int) -> None:
        asked.append(take)
        raise redis_errors.ConnectionError("gone")

    monkeypatch.setattr("scoreline_tasks.queue.drain.PAUSE_MS", 0)
    monkeypatch.setattr(worker._drain._queue, "exchange", lost)
    pause = worker._drain._pause_for_online(0)
    pause()
    pause()
    assert len(asked) == 1


def test_requests_that_wait_for_their_version_are_renewed(
    redis: Redis, worker: InProcessWorker, loading: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loading.append("other")
    ask(redis, [{"x": 1}], model="other")
    worker.step()
    lease = worker._drain._lease
    renewed: list[int] = []
    monkeypatch.setattr(lease._queue, "renew", lambda entries: renewed.append(len(entries)))
    lease.renew()
    worker.step()
    lease.renew()
    loading.clear()
    worker._drain.answer_postponed(20)
    lease.renew()
    assert renewed == [1, 1]


# What a read holds, and when it looks again


def test_a_read_holds_no_more_bytes_than_those_before_it_allow(
    redis: Redis, worker: InProcessWorker, doubler: Doubler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two thousand entries may be of a hundred bytes or of sixteen megabytes each."""
    monkeypatch.setattr(drain_module, "READ_BYTES", 1000)
    large = b'[{"x": 1}%s]' % (b" " * 290)
    for _ in range(20):
        ask(redis, large)
    assert worker.step() == 20
    assert max(doubler.sizes) == 3, "what is scored together is bounded, too"
    for _ in range(20):
        ask(redis, large)
    assert worker.step() == 3


def test_the_first_read_of_a_process_is_small(
    redis: Redis, worker: InProcessWorker, doubler: Doubler
) -> None:
    drain = worker._drain
    worker._drain = drain_module.Drain(
        drain._queue,
        drain._batcher,
        drain._lease,
        KEYS,
        drain._wakeups,
        take=512,
        first=drain_module.FIRST_READ,
    )
    for number in range(100):
        ask(redis, [{"x": number + 20}])
    while worker.step():
        pass
    assert doubler.sizes == [drain_module.FIRST_READ, 100 - drain_module.FIRST_READ]


def test_a_drain_says_before_each_wait_and_each_batch_by_when_it_is_back(
    redis: Redis, worker: InProcessWorker
) -> None:
    said: list[float] = []
    worker._drain.serve(30, linger_ms=20, promise=said.append)
    assert said == [pytest.approx(0.02 + drain_module.LATE_S)]
    said.clear()
    ask(redis, [{"x": 1}])
    worker._drain.serve(30, linger_ms=20, promise=said.append)
    assert said == [drain_module.BATCH_S, pytest.approx(0.02 + drain_module.LATE_S)]


def test_what_another_thread_postpones_keeps_its_hold(
    redis: Redis, worker: InProcessWorker, loading: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pool of threads shares a drain: what is held is replaced under the lock under which it is postponed."""
    loading.append("other")
    ask(redis, [{"x": 1}], model="other")
    worker.step()
    drain = worker._drain
    is_locked: list[bool] = []
    keep = drain._lease.keep

    def noting(holder: object, entries: Any) -> None:
        is_locked.append(drain._lock.locked())
        keep(holder, entries)

    monkeypatch.setattr(drain._lease, "keep", noting)
    drain._next_look_ms = 0
    drain._look_again(0)
    assert is_locked == [True, True]
    assert len(drain._lease.held()) == 1
