"""Real workers end, lose their drain, and start again; that nothing is lost meanwhile is counted in `tests/faults`."""

from __future__ import annotations

import asyncio
import time

import pytest

from scoreline_client import AsyncClient, Client, Prediction
from tests.acceptance.conftest import MODEL, Fleet, children_of

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]


def test_a_lost_drain_is_replaced(fleet: Fleet) -> None:
    worker = fleet.start_worker(processes=1)
    with Client(settings=fleet.settings) as client:
        assert client.predict(MODEL, {"x": 1.0}).value == pytest.approx(2.0)
        children_of(worker)[0].kill()
        assert client.predict(MODEL, {"x": 2.0}, timeout=40).value == pytest.approx(3.0)


def test_a_warm_shutdown_ends_within_seconds_and_loses_nothing(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCORELINE_SLICE_S", "3600")  # nor does it wait for the end of a slice
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
