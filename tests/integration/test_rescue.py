"""What a dead process leaves is answered by another one, which does not die of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pandas as pd
import pytest
from redis import Redis

from scoreline_artifacts import Store
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_client.protocol.keys import GROUP, Keys, Lane
from scoreline_client.protocol.messages import Answer, Request, Status, new_id
from scoreline_tasks.models.registry import Models
from scoreline_tasks.queue import recovery
from scoreline_tasks.queue.drain import Lease
from scoreline_tasks.queue.recovery import RESCUERS, Outcome, Rescue, Team, score_here
from scoreline_tasks.queue.streams import RequestQueue
from scoreline_tasks.scoring.batch import Batcher, Entry, Finished
from scoreline_tasks.scoring.limits import Limits
from scoreline_tasks.system import Fork
from tests.support.models import Predictor
from tests.support.worker import enqueue

KEYS = Keys("default")
LEASE_S = 0.05


def _exit_at_13(frame: pd.DataFrame) -> npt.NDArray[Any]:
    """Answer x, and take the process along when x is 13."""
    if (frame["x"] == 13).any():
        os._exit(1)
    return np.asarray(frame["x"])


@pytest.fixture
def queue(redis_client: Redis) -> RequestQueue:
    queue = RequestQueue(redis_client, KEYS, "rescuer", result_ttl_s=60)
    queue.prepare()
    return queue


@pytest.fixture
def make(queue: RequestQueue, tmp_path: Any) -> Callable[..., Rescue]:
    """Make a rescue of a worker that serves a pipeline as `poisonable`."""

    def make(
        answer: Callable[[pd.DataFrame], Any] = _exit_at_13,
        limit_s: float = 20,
        lease_s: float = LEASE_S,
        spy: Callable[[list[Entry]], None] = lambda entries: None,
        team: Team | None = None,
    ) -> Rescue:
        models = Models(Store(tmp_path), max_versions=2)
        models.add(LoadedVersion.of(Predictor(answer), "poisonable"))
        score = partial(score_here, Batcher(models, Limits(1 << 20, 1000)))

        def score_apart(entries: Any, *arguments: Any, **load: Any) -> Outcome:
            spy(list(entries))
            return score(entries, *arguments, **load)

        lease = Lease(queue, lease_s=lease_s, limit_s=60)
        return Rescue(queue, lease, score_apart, limit_s=limit_s, team=team)

    return make


@pytest.fixture
def rescue(make: Callable[..., Rescue]) -> Rescue:
    return make()


def abandon(
    redis: Redis,
    numbers: list[int],
    together: list[int] | None = None,
    expires_ms: int = 60_000,
    waits: bool = True,
) -> dict[int, str]:
    """Queue requests and let a worker take them that is never heard of again.

    One for each number, and one, as -1, for those that go together.
    """
    bodies = {number: [{"x": number}] for number in numbers}
    if together is not None:
        bodies[-1] = [{"x": number} for number in together]
    asked = {}
    for number, records in bodies.items():
        body = orjson.dumps(records)
        request = Request(
            id=new_id(), model="poisonable", body=body, reply_to="a" * 32, expires_ms=expires_ms
        )
        enqueue(redis, request)
        asked[number] = request.id
    redis.xreadgroup(GROUP, "dead", {KEYS.lane(Lane.ONLINE): ">"}, count=len(asked))
    if waits:
        _wait_for_the_lease(redis, len(asked))
    return asked


def _wait_for_the_lease(redis: Redis, count: int, of: Lane = Lane.ONLINE) -> None:
    lane, idle_ms = KEYS.lane(of), int(LEASE_S * 1000)
    deadline = time.monotonic() + 10
    while len(redis.xpending_range(lane, GROUP, "-", "+", count, idle=idle_ms)) < count:  # type: ignore[arg-type]
        assert time.monotonic() < deadline
        time.sleep(0.005)


def answer_to(redis: Redis, request_id: str) -> Answer:
    data = redis.get(KEYS.result(request_id))
    assert isinstance(data, bytes), "there is no answer"
    return Answer.decode(data)


def test_requests_of_a_dead_process_are_answered(redis_client: Redis, rescue: Rescue) -> None:
    asked = abandon(redis_client, list(range(10)))
    assert rescue.run() == 10
    assert {number: answer_to(redis_client, one).values for number, one in asked.items()} == {
        number: [number] for number in range(10)
    }
    assert redis_client.xlen(KEYS.lane(Lane.ONLINE)) == 0


def test_a_request_that_kills_its_process_is_given_up_and_its_neighbours_are_answered(
    redis_client: Redis, rescue: Rescue
) -> None:
    asked = abandon(redis_client, [*range(10), 13, *range(20, 30)])
    rescue.run()
    poison = answer_to(redis_client, asked.pop(13))
    assert poison.status is Status.ERROR
    assert poison.error is not None
    assert poison.error["code"] == "E_CRASHED"
    assert all(answer_to(redis_client, one).values == [number] for number, one in asked.items())
    assert redis_client.xlen(KEYS.dead) == 1
    assert redis_client.exists(KEYS.attempts) == 0


@pytest.mark.parametrize("place", [0, 6, 12])
def test_a_record_that_kills_its_process_costs_the_others_of_its_request_nothing(
    redis_client: Redis, rescue: Rescue, place: int
) -> None:
    numbers = list(range(12))
    numbers.insert(place, 13)
    asked = abandon(redis_client, [20, 21], together=numbers)
    rescue.run()
    answer = answer_to(redis_client, asked[-1])
    assert answer.values == [None if number == 13 else number for number in numbers]
    assert list(answer.errors) == [str(place)]
    assert answer.errors[str(place)]["code"] == "E_CRASHED"
    assert (answer.records, answer.version) == (13, 1)
    assert [answer_to(redis_client, asked[number]).values for number in (20, 21)] == [[20], [21]]
    ((_, dead),) = redis_client.xrange(KEYS.dead)  # type: ignore[misc]
    assert dead[b"body"] == b'[{"x":13}]'
    assert redis_client.exists(KEYS.attempts) == 0


def test_requests_of_a_process_that_is_known_to_be_dead_wait_for_no_lease(
    redis_client: Redis, make: Callable[..., Rescue]
) -> None:
    team = Team()
    rescue = make(lease_s=3600, team=team)
    asked = abandon(redis_client, list(range(100, 700)), waits=False)
    redis_client.zadd(KEYS.processes, {"dead": 1, "other": time.time()})
    rescue.look()
    assert redis_client.xlen(KEYS.lane(Lane.ONLINE)) == 600
    team.take_over("dead")
    rescue.look()
    assert all(answer_to(redis_client, one).values == [number] for number, one in asked.items())
    names = redis_client.xinfo_consumers(KEYS.lane(Lane.ONLINE), GROUP)
    assert b"dead" not in [one["name"] for one in names]  # type: ignore[union-attr]
    assert redis_client.zrange(KEYS.processes, 0, -1) == [b"other"]
    assert not team.dead


def test_a_living_process_keeps_what_it_has_when_another_one_dies(
    redis_client: Redis, make: Callable[..., Rescue]
) -> None:
    asked = abandon(redis_client, [1], waits=False)
    enqueue(redis_client, Request(id=new_id(), model="poisonable", body=b'[{"x": 2}]'))
    redis_client.xreadgroup(GROUP, "alive", {KEYS.lane(Lane.ONLINE): ">"})
    team = Team()
    team.take_over("dead")
    make(lease_s=3600, team=team).look()
    assert answer_to(redis_client, asked[1]).values == [1]
    (held,) = redis_client.xpending_range(KEYS.lane(Lane.ONLINE), GROUP, "-", "+", 9)  # type: ignore[misc]
    assert held["consumer"] == b"alive"


def test_a_dead_process_is_released_once_the_server_is_back(
    redis_client: Redis, make: Callable[..., Rescue], monkeypatch: pytest.MonkeyPatch
) -> None:
    team = Team()
    team.take_over("dead")
    rescue = make(lease_s=3600, team=team)
    asked = abandon(redis_client, [1], waits=False)
    with monkeypatch.context() as patch:
        patch.setattr(rescue._queue, "release", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            rescue.look()
    rescue.look()
    assert answer_to(redis_client, asked[1]).values == [1]


def _slowly(frame: pd.DataFrame) -> Any:
    time.sleep(0.5)
    return np.asarray(frame["x"])


def test_rescuers_that_are_killed_from_outside_cost_no_request_its_answer(
    redis_client: Redis, make: Callable[..., Rescue], eventually: Callable[..., Any]
) -> None:
    asked = abandon(redis_client, list(range(10)))
    rescue = make(_slowly)
    for _ in range(4):
        doomed = Fork(rescue.run)
        eventually(lambda: redis_client.hlen(KEYS.attempts))
        os.kill(doomed.pid, signal.SIGKILL)
        os.waitpid(doomed.pid, 0)
        _wait_for_the_lease(redis_client, 10)
    make().run()
    assert [answer_to(redis_client, one).values for one in asked.values()] == [
        [number] for number in asked
    ]
    assert redis_client.exists(KEYS.dead) == 0


def test_what_may_have_ended_a_rescuer_is_scored_alone_and_last(
    redis_client: Redis, make: Callable[..., Rescue]
) -> None:
    asked = abandon(redis_client, [1, 2, 3, 4])
    redis_client.hset(KEYS.attempts, asked[2], "1")
    seen: list[list[str]] = []
    make(spy=lambda entries: seen.append([one.request_id for one in entries])).run()
    assert seen == [[asked[1], asked[3], asked[4]], [asked[2]]]
    assert redis_client.exists(KEYS.attempts) == 0


def test_what_ends_its_rescuers_again_and_again_is_not_tried_for_ever(
    redis_client: Redis, rescue: Rescue
) -> None:
    asked = abandon(redis_client, [1, 2])
    redis_client.hset(KEYS.attempts, asked[1], str(RESCUERS))
    rescue.run()
    error = answer_to(redis_client, asked[1]).error
    assert error is not None
    assert error["code"] == "E_CRASHED"
    assert answer_to(redis_client, asked[2]).values == [2]


def test_the_end_of_the_process_that_forks_counts_and_its_absence_does_not(
    redis_client: Redis, make: Callable[..., Rescue]
) -> None:
    """A pool that does not fork has another process do it, which is forked anew when it ends."""

    def fail(error: Exception) -> Callable[[list[Entry]], None]:
        def spy(entries: list[Entry]) -> None:
            raise error

        return spy

    abandon(redis_client, [1, 2])
    for error in (TimeoutError("it said nothing for 5 s"), ConnectionRefusedError()):
        with pytest.raises(type(error)):
            make(spy=fail(error)).run()
        _wait_for_the_lease(redis_client, 2)
    assert redis_client.exists(KEYS.attempts) == 0
    with pytest.raises(EOFError):
        make(spy=fail(EOFError())).run()
    assert redis_client.hvals(KEYS.attempts) == [b"1", b"1"]


def test_a_job_that_is_cancelled_meanwhile_leaves_no_count_behind(
    redis_client: Redis, make: Callable[..., Rescue]
) -> None:
    def cancel(entries: list[Entry]) -> None:
        redis_client.set(KEYS.result(entries[0].request_id), b"cancelled")
        redis_client.xdel(KEYS.lane(Lane.ONLINE), entries[0].id)
        redis_client.hdel(KEYS.attempts, entries[0].request_id)

    asked = abandon(redis_client, [13])
    make(spy=cancel).run()
    assert redis_client.get(KEYS.result(asked[13])) == b"cancelled"
    assert redis_client.exists(KEYS.attempts) == 0


def _twenty_ms_a_row(frame: pd.DataFrame) -> Any:
    time.sleep(0.02 * len(frame))
    return np.asarray(frame["x"])


def test_slowness_is_no_death(
    redis_client: Redis, make: Callable[..., Rescue], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "FIRST_LIMIT_S", 0.3)
    sizes: list[int] = []
    asked = abandon(redis_client, list(range(40)), together=list(range(40, 80)))
    make(_twenty_ms_a_row, spy=lambda entries: sizes.append(len(entries))).run()
    assert answer_to(redis_client, asked.pop(-1)).values == list(range(40, 80))
    assert all(answer_to(redis_client, one).values == [number] for number, one in asked.items())
    assert redis_client.exists(KEYS.dead, KEYS.attempts) == 0


def _hang_at_13(frame: pd.DataFrame) -> Any:
    if (frame["x"] == 13).any():
        time.sleep(600)
    return np.asarray(frame["x"])


def test_a_record_that_does_not_end_is_given_up_after_all_others_are_answered(
    redis_client: Redis, make: Callable[..., Rescue], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "FIRST_LIMIT_S", 0.3)
    asked = abandon(redis_client, [1, 2], together=[3, 13, 4])
    make(_hang_at_13, limit_s=1).run()
    answer = answer_to(redis_client, asked[-1])
    assert answer.values == [3, None, 4]
    assert (list(answer.errors), answer.errors["1"]["code"]) == (["1"], "E_CRASHED")
    assert "did not finish in time (1 s)" in answer.errors["1"]["message"]
    assert [answer_to(redis_client, asked[number]).values for number in (1, 2)] == [[1], [2]]


@pytest.mark.parametrize("lane", list(Lane))
def test_what_is_abandoned_is_found_behind_any_number_of_requests_in_hand(
    redis_client: Redis, queue: RequestQueue, lane: Lane
) -> None:
    for _ in range(303):
        enqueue(redis_client, Request(id=new_id(), model="m", body=b"[{}]"), lane)
    ids: Any = []
    for consumer, count in (("alive", 300), ("dead", 3)):
        reply: Any = redis_client.xreadgroup(GROUP, consumer, {KEYS.lane(lane): ">"}, count=count)
        ids = [entry for _, entries in reply for entry, _ in entries]
    redis_client.xclaim(KEYS.lane(lane), GROUP, "dead", 0, ids, idle=60_000, justid=True)
    found = [one.id for _ in range(3) for one in queue.claim(lane, 30_000, 1)]
    assert found == ids


def test_who_shares_a_request_with_a_record_that_does_not_end_is_answered_in_time(
    redis_client: Redis, make: Callable[..., Rescue], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "FIRST_LIMIT_S", 0.3)
    asked = abandon(redis_client, [], together=[3, 13, 4], expires_ms=12_000)
    make(_hang_at_13, limit_s=300).run()
    answer = answer_to(redis_client, asked[-1])
    assert (answer.values, list(answer.errors)) == ([3, None, 4], ["1"])


def test_large_requests_are_claimed_one_by_one(
    redis_client: Redis, make: Callable[..., Rescue], queue: RequestQueue
) -> None:
    for _ in range(3):
        body = orjson.dumps([{"x": 1, "note": "n" * 200_000}])
        enqueue(redis_client, Request(id=new_id(), model="poisonable", body=body))
    redis_client.xreadgroup(GROUP, "dead", {KEYS.lane(Lane.ONLINE): ">"})
    assert [len(queue.claim(Lane.ONLINE, 0, 256)) for _ in range(2)] == [1, 1]


def test_a_chunk_that_is_dropped_with_its_job_leaves_no_count_behind(
    redis_client: Redis, rescue: Rescue
) -> None:
    request = Request(id=new_id(), model="poisonable", body=b'[{"x": 1}]', job=new_id())
    enqueue(redis_client, request, Lane.BULK)
    redis_client.xreadgroup(GROUP, "dead", {KEYS.lane(Lane.BULK): ">"})
    _wait_for_the_lease(redis_client, 1, Lane.BULK)
    redis_client.hset(KEYS.attempts, request.id, "1")
    assert rescue.run() == 1
    assert redis_client.exists(KEYS.attempts, KEYS.result(request.id)) == 0


def test_a_request_without_an_id_leaves_no_count_behind(
    redis_client: Redis, rescue: Rescue
) -> None:
    lane = KEYS.lane(Lane.ONLINE)
    redis_client.xadd(lane, {"wire": "1", "body": "[]"})
    redis_client.xreadgroup(GROUP, "dead", {lane: ">"})
    _wait_for_the_lease(redis_client, 1)
    assert rescue.run() == 1
    assert redis_client.exists(KEYS.attempts) == 0


def test_an_expired_request_leaves_no_count_behind(redis_client: Redis, rescue: Rescue) -> None:
    (request_id,) = abandon(redis_client, [1], expires_ms=1).values()
    redis_client.hset(KEYS.attempts, request_id, "1")
    rescue.run()
    error = answer_to(redis_client, request_id).error
    assert error is not None
    assert error["code"] == "E_EXPIRED"
    assert redis_client.exists(KEYS.attempts) == 0


def test_who_counts_after_another_has_answered_leaves_no_count_behind(
    redis_client: Redis, queue: RequestQueue
) -> None:
    asked = abandon(redis_client, [5])
    (entry,) = _pending(redis_client, queue)
    answer = Finished(entry, asked[5], "a" * 32, Answer(id=asked[5], values=[5]).encode())
    assert queue.finish([answer]) == 1
    queue.begin_attempt([entry])
    assert queue.finish([answer]) == 0
    assert redis_client.exists(KEYS.attempts) == 0


def test_a_count_that_nobody_takes_back_goes_by_itself(
    redis_client: Redis, queue: RequestQueue
) -> None:
    abandon(redis_client, [5])
    (entry,) = _pending(redis_client, queue)
    queue.begin_attempt([entry])
    assert queue.attempts([entry]) == [1]
    ttl: Any = redis_client.pttl(KEYS.attempts)
    assert ttl > 0


def test_a_worker_that_wakes_up_late_changes_no_answer(
    redis_client: Redis, rescue: Rescue, queue: RequestQueue
) -> None:
    asked = abandon(redis_client, [5])
    (late,) = _pending(redis_client, queue)
    rescue.run()
    other = Answer(id=asked[5], values=[999]).encode()
    assert queue.finish([Finished(late, asked[5], "a" * 32, other)]) == 0
    assert answer_to(redis_client, asked[5]).values == [5]
    assert redis_client.llen(KEYS.reply("a" * 32)) == 1


def test_the_names_of_dead_processes_are_forgotten_unless_they_hold_requests(
    redis_client: Redis, queue: RequestQueue
) -> None:
    abandon(redis_client, [1])
    lane = KEYS.lane(Lane.ONLINE)
    redis_client.xgroup_createconsumer(lane, GROUP, "idle")
    _wait_until_idle(redis_client, "idle")
    queue.forget_dead_consumers(idle_ms=1)
    left = {one["name"] for one in redis_client.xinfo_consumers(lane, GROUP)}  # type: ignore[union-attr]
    assert left == {b"dead"}


def test_a_consumer_that_leaves_is_forgotten_unless_it_holds_requests(
    redis_client: Redis, queue: RequestQueue
) -> None:
    abandon(redis_client, [1])
    lane = KEYS.lane(Lane.ONLINE)
    for name in ("idle", "other"):
        redis_client.xgroup_createconsumer(lane, GROUP, name)
    for name in ("idle", "dead"):
        RequestQueue(redis_client, KEYS, name, result_ttl_s=60).leave()
    left = {one["name"] for one in redis_client.xinfo_consumers(lane, GROUP)}  # type: ignore[union-attr]
    assert left == {b"dead", b"other"}


def _wait_until_idle(redis: Redis, name: str) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found: Any = redis.xinfo_consumers(KEYS.lane(Lane.ONLINE), GROUP)
        if next(one["idle"] for one in found if one["name"] == name.encode()) > 1:
            return
        time.sleep(0.002)


def _pending(redis: Redis, queue: RequestQueue) -> list[Any]:
    entries = queue.claim(Lane.ONLINE, 0, 100)
    _wait_for_the_lease(redis, len(entries))
    return entries
