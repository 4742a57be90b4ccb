"""Real workers, real signals: nothing accepted is lost, and nothing is answered twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from scoreline_client import AsyncClient, Client, Prediction
from scoreline_client.protocol.keys import Lane
from scoreline_client.protocol.messages import Answer, Request, new_id
from tests.acceptance.conftest import MODEL, Fleet, children_of, kill_child, kill_group
from tests.support.worker import entry_fields

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]

REQUESTS = 2000


class Caller:
    """Sends requests and remembers every answer that comes back, however often it comes."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.client_id = new_id()
        self.asked: dict[str, float] = {}

    def send(self, count: int) -> None:
        """Queue requests, ten to a round trip, with the numbers that they ask about."""
        stream = self.fleet.keys.lane(Lane.ONLINE)
        for start in range(0, count, 10):
            pipeline = self.fleet.redis.pipeline(transaction=False)
            for number in range(start, start + 10):
                request = Request(
                    id=new_id(),
                    model=MODEL,
                    body=b'[{"x": %d.0}]' % number,
                    reply_to=self.client_id,
                    expires_ms=120_000,
                )
                self.asked[request.id] = float(number)
                fields: Any = entry_fields(request)
                pipeline.xadd(stream, fields)
            pipeline.execute()

    def replies(self) -> list[bytes]:
        found: Any = self.fleet.redis.lrange(self.fleet.keys.reply(self.client_id), 0, -1)
        return list(found)

    def check(self) -> None:
        """Every request has one answer, the right one, and the lane is empty."""
        replies = [Answer.decode(data) for data in self.replies()]
        assert len(replies) == len(self.asked)
        found = {answer.id: answer.values for answer in replies}
        assert found == {
            request: [pytest.approx(number + 1)] for request, number in self.asked.items()
        }
        assert self.fleet.redis.xlen(self.fleet.keys.lane(Lane.ONLINE)) == 0


def test_killing_a_pool_child_under_load_loses_nothing_and_answers_nothing_twice(
    fleet: Fleet, eventually: Callable[..., Any]
) -> None:
    worker = fleet.start_worker()
    caller = Caller(fleet)
    for place in range(4):
        answered = len(caller.replies())
        caller.send(REQUESTS // 4)
        eventually(lambda answered=answered: len(caller.replies()) > answered)
        eventually(kill_child(worker, place % 2))
    eventually(lambda: len(caller.replies()) >= REQUESTS)
    caller.check()


def test_killing_the_whole_worker_under_load_loses_nothing_and_answers_nothing_twice(
    fleet: Fleet, eventually: Callable[..., Any]
) -> None:
    worker = fleet.start_worker()
    caller = Caller(fleet)
    caller.send(REQUESTS // 2)
    kill_group(worker)
    caller.send(REQUESTS // 2)
    fleet.start_worker()
    eventually(lambda: len(caller.replies()) >= REQUESTS)
    caller.check()


def test_a_lost_drain_is_replaced(fleet: Fleet) -> None:
    worker = fleet.start_worker(processes=1)
    with Client(settings=fleet.settings) as client:
        assert client.predict(MODEL, {"x": 1.0}).value == pytest.approx(2.0)
        children_of(worker)[0].kill()
        assert client.predict(MODEL, {"x": 2.0}, timeout=40).value == pytest.approx(3.0)


def test_a_warm_shutdown_ends_within_seconds_and_loses_nothing(fleet: Fleet) -> None:
    worker = fleet.start_worker()
    worker.terminate()
    assert worker.wait(15) == 0
    with Client(settings=fleet.settings) as client:
        job = client.submit(MODEL, [{"x": 1.0}])
        fleet.start_worker(processes=1)
        assert job.result(timeout=20)[0].value == pytest.approx(2.0)


class Load:
    """64 requests in flight until it is told to stop."""

    def __init__(self, client: AsyncClient) -> None:
        self.client = client
        self.answers: list[tuple[float, float, Prediction]] = []
        """When it was answered, seconds that it took, and the answer."""
        self._running = True

    async def run(self) -> None:
        await asyncio.gather(*(self._ask(float(number)) for number in range(64)))

    def stop(self) -> None:
        self._running = False

    async def _ask(self, number: float) -> None:
        while self._running:
            asked = time.monotonic()
            answer = await self.client.predict(MODEL, {"x": number}, timeout=20)
            now = time.monotonic()
            assert answer.value == pytest.approx(number + answer.version)
            self.answers.append((now, now - asked, answer))
