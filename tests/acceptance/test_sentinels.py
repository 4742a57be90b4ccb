"""A worker behind sentinels: its Celery connection, its own ones and its callers follow a fail-over."""

from __future__ import annotations

from pathlib import Path

import pytest

from scoreline_artifacts import Store
from scoreline_artifacts.store import releases
from scoreline_client import Client, ClientSettings
from scoreline_client.protocol.keys import Keys
from scoreline_client.transport.servers import blocking_redis
from scoreline_tasks.dev.local_worker import WorkerEnvironment, local_worker, wait_until_reporting
from tests.acceptance.conftest import MODEL, publish_shift
from tests.support.sentinels import replicated, wait_until_promoted

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]


def test_a_worker_and_its_callers_follow_a_fail_over(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    publish_shift(store, 1.0)
    releases.promote(store, MODEL, 1)
    with replicated(tmp_path) as servers, (tmp_path / "worker.log").open("wb") as log:
        where = WorkerEnvironment(redis_url=servers.url, artifacts=store.root)
        settings = ClientSettings(redis_url=servers.url)
        with (
            local_worker(where, concurrency=2, output=log) as worker,
            Client(settings=settings) as client,
        ):
            with blocking_redis(servers.url) as redis:
                wait_until_reporting(worker, redis, Keys("default"), processes=2, model=MODEL)
            assert client.predict(MODEL, {"x": 1.0}, timeout=20).value == pytest.approx(2.0)
            servers.primary.kill()
            servers.primary.wait()
            # Asked while there is no primary.
            assert client.predict(MODEL, {"x": 2.0}, timeout=60).value == pytest.approx(3.0)
            wait_until_promoted(servers)
            job = client.submit(MODEL, [{"x": float(n)} for n in range(3)])
            values = [one.value for one in job.result(timeout=30)]
            assert values == pytest.approx([1.0, 2.0, 3.0])
            assert worker.poll() is None
