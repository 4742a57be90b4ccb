"""Callers who share a request: each gets what is its own, and nobody pays for another one."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest
from redis import Redis

from scoreline_client import (
    AsyncClient,
    Client,
    ClientSettings,
    NoAnswer,
    Policy,
    QueueFull,
    RecordRejected,
    RequestExpired,
    RequestOptions,
    RequestRefused,
    UnknownModel,
)
from scoreline_client.protocol.keys import Keys, Lane
from scoreline_client.protocol.messages import Answer, Request
from scoreline_client.transport.coalescing import (
    LARGE_BYTES,
    SHARED_RECORDS,
    Caller,
    SharedRequest,
)
from scoreline_client.transport.dispatcher import PendingRequest
from tests.support.worker import StubWorker, double, refuse

pytestmark = pytest.mark.integration


class Noting:
    """Answers like `double` and remembers what it was asked."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def __call__(self, request: Request) -> Answer | None:
        self.requests.append(request)
        return double(request)

    @property
    def counts(self) -> list[int]:
        return sorted(len(orjson.loads(one.body)) for one in self.requests)


async def test_a_bad_record_costs_its_caller_only(client: AsyncClient, worker: StubWorker) -> None:
    noting = Noting()
    with worker.serving(noting):
        asked = [client.predict("pima", record) for record in ({"x": 1}, {"y": 2}, {"x": 3})]
        first, bad, last = await asyncio.gather(*asked, return_exceptions=True)
    assert noting.counts == [3]
    assert noting.requests[0].apart
    assert (first.value, last.value) == (2, 6)  # type: ignore[union-attr]
    assert isinstance(bad, RecordRejected)
    assert (bad.code, bad.column) == ("E_MISSING_COLUMN", "x")


async def test_a_value_that_json_has_no_form_for_costs_its_caller_alone(
    client: AsyncClient, worker: StubWorker
) -> None:
    with worker.serving():
        asked = [client.predict("pima", record) for record in ({"x": 1}, {"x": {1}}, {"x": 3})]
        first, bad, last = await asyncio.gather(*asked, return_exceptions=True)
    assert (first.value, last.value) == (2, 6)  # type: ignore[union-attr]
    assert isinstance(bad, RecordRejected)
    assert (bad.code, bad.column) == ("E_TYPE", "x")


async def test_only_what_belongs_together_shares(client: AsyncClient, worker: StubWorker) -> None:
    noting = Noting()
    warn = RequestOptions(unseen=Policy.WARN)
    with worker.serving(noting):
        await asyncio.gather(
            client.predict("pima", {"x": 1}),
            client.predict("pima", {"x": 2}, timeout=6.5),
            client.predict("pima@3", {"x": 1}),
            client.predict("pima", {"x": 1}, options=warn),
            client.predict("pima", {"x": 1}, timeout=60),
        )
    assert noting.counts == [1, 1, 1, 2]
    shared = next(one for one in noting.requests if one.apart)
    assert 6000 < shared.expires_ms <= 6500


async def test_a_request_is_shared_by_so_many_and_large_records_travel_alone(
    client: AsyncClient, worker: StubWorker
) -> None:
    noting = Noting()
    large = {"x": 1, "text": "x" * LARGE_BYTES}
    records = [*({"x": n} for n in range(SHARED_RECORDS + 3)), large]
    with worker.serving(noting):
        found = await asyncio.gather(*(client.predict("pima", one) for one in records))
    assert [one.value for one in found] == [one["x"] * 2 for one in records]  # type: ignore[operator]
    assert noting.counts == [1, 3, SHARED_RECORDS]


async def test_a_shared_request_is_not_larger_than_requests_may_be(
    redis_url: str, worker: StubWorker
) -> None:
    noting = Noting()
    settings = ClientSettings(redis_url=redis_url, max_request_records=3, max_request_bytes=1024)
    records = [*({"x": n} for n in range(4)), *({"x": n, "text": "y" * 400} for n in range(4))]
    with worker.serving(noting):
        async with AsyncClient(settings=settings) as client:
            found = await asyncio.gather(*(client.predict("pima", one) for one in records))
    assert [one.value for one in found] == [0, 2, 4, 6, 0, 2, 4, 6]
    assert max(noting.counts) == 3
    assert max(len(one.body) for one in noting.requests) <= 1024


@pytest.mark.parametrize("endless", [float("inf"), float("nan")])
async def test_nobody_waits_for_ever(
    client: AsyncClient, sync_client: Client, endless: float
) -> None:
    with pytest.raises(ValueError, match="expected a number of seconds"):
        await client.predict("pima", {"x": 1}, timeout=endless)
    with pytest.raises(ValueError, match="expected a number of seconds"):
        sync_client.predict("pima", {"x": 1}, timeout=endless)


async def test_everyone_waits_as_long_as_they_said(client: AsyncClient, worker: StubWorker) -> None:
    hasty = asyncio.ensure_future(client.predict("pima", {"x": 1}, timeout=0.26))
    patient = asyncio.ensure_future(client.predict("pima", {"x": 2}, timeout=0.49))
    with pytest.raises(NoAnswer, match=r"within 0\.26 s: no worker"):
        await hasty
    assert not patient.done()
    # The request is still there for the other one.
    with worker.serving():
        assert (await patient).value == 4


async def test_one_who_leaves_does_not_take_the_others_along(
    client: AsyncClient, worker: StubWorker
) -> None:
    leaving = asyncio.ensure_future(client.predict("pima", {"x": 1}))
    staying = asyncio.ensure_future(client.predict("pima", {"x": 2}))
    gone = asyncio.ensure_future(client.predict("pima", {"x": 3}))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0.05)
    leaving.cancel()
    with worker.serving():
        assert (await staying).value == 4
    with pytest.raises(asyncio.CancelledError):
        await leaving


async def test_a_refusal_is_raised_by_each_as_its_own(
    client: AsyncClient, worker: StubWorker
) -> None:
    with worker.serving(refuse("E_UNKNOWN_MODEL", "there is no model 'pina'")):
        asked = [client.predict("pina", {"x": n}) for n in range(3)]
        errors = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(one, UnknownModel) and "pina" in str(one) for one in errors)
    assert len({id(one) for one in errors}) == 3


@pytest.mark.parametrize(
    "spoil", [lambda answer: replace(answer, values=[1]), lambda _: Answer(id="", errors={"0": {}})]
)
async def test_an_answer_that_makes_no_sense_is_an_error_at_once(
    client: AsyncClient, worker: StubWorker, spoil: Callable[[Answer], Answer]
) -> None:
    def respond(request: Request) -> Answer:
        answer = double(request)
        assert answer is not None
        return replace(spoil(answer), id=request.id)

    with worker.serving(respond):
        asked = [client.predict("pima", {"x": n}, timeout=30) for n in range(2)]
        errors = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(one, RequestRefused | KeyError) for one in errors)


async def test_what_fits_is_queued_when_not_all_do(redis_url: str, redis_client: Redis) -> None:
    settings = ClientSettings(redis_url=redis_url, queue_limit=5)
    async with AsyncClient(settings=settings) as client:
        waiting = [client.predict("pima", {"x": n}, timeout=0.3) for n in range(8)]
        ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(one) for one in ended] == 5 * [NoAnswer] + 3 * [QueueFull]
    entries: Any = redis_client.xrange(Keys("default").lane(Lane.ONLINE))
    assert [orjson.loads(fields[b"body"]) for _, fields in entries] == [
        [{"x": n} for n in range(5)]
    ]


async def test_who_waits_while_the_client_is_closed_is_sent_away(
    client_settings: ClientSettings,
) -> None:
    client = AsyncClient(settings=client_settings)
    sent = asyncio.ensure_future(client.predict("pima", {"x": 1}))
    await asyncio.sleep(0.05)
    unsent = asyncio.ensure_future(client.predict("pima", {"x": 1}))
    await asyncio.sleep(0)
    await client.close()
    ended = await asyncio.gather(sent, unsent, return_exceptions=True)
    assert [type(one) for one in ended] == 2 * [asyncio.CancelledError]


async def test_an_answered_request_is_freed_without_the_garbage_collector(
    client: AsyncClient, worker: StubWorker
) -> None:
    try:
        with worker.serving():
            # Connecting leaves errors of redis-py, which from Python 3.12 on hold who waits for it.
            await client.predict("pima", {"x": 0})
            gc.collect()
            gc.disable()
            await asyncio.gather(*(client.predict("pima", {"x": n}) for n in range(100)))
        await asyncio.sleep(0)
        kinds = SharedRequest, PendingRequest, Caller
        assert [made for made in gc.get_objects() if isinstance(made, kinds)] == []
    finally:
        gc.enable()


def test_threads_share_too(sync_client: Client, worker: StubWorker) -> None:
    noting = Noting()
    found: dict[int, Any] = {}

    def ask(n: int) -> None:
        for step in range(5):
            found[n, step] = sync_client.predict("pima", {"x": n + 100 * step}).value

    with worker.serving(noting):
        threads = [threading.Thread(target=ask, args=(n,)) for n in range(32)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    assert found == {(n, step): 2 * (n + 100 * step) for n in range(32) for step in range(5)}
    assert len(noting.requests) < 32 * 5


def test_a_request_that_expired_while_its_caller_waited_is_no_answer_and_said_so(
    sync_client: Client, worker: StubWorker
) -> None:
    """A worker may be the first to see it: to the caller it is the same."""
    asks: list[Callable[[], object]] = [
        lambda: sync_client.predict("pima", {"x": 1}),
        lambda: sync_client.predict_many("pima", [{"x": 1}]),
        lambda: sync_client.describe("pima"),
    ]
    with worker.serving(refuse("E_EXPIRED", "waited 3 ms in the queue")):
        for ask in asks:
            with pytest.raises(NoAnswer, match="waited 3 ms") as late:
                ask()
            assert isinstance(late.value, RequestExpired)
            assert (late.value.code, len(late.value.request_id)) == ("E_EXPIRED", 32)
            assert late.value.exit_status == NoAnswer.exit_status
