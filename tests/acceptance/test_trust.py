"""Workers that share nothing with who publishes but a bucket, Redis, and a public key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from scoreline_artifacts import KeyRing, Store
from scoreline_artifacts.manifest import PIPELINE
from scoreline_artifacts.store import releases
from scoreline_client import AsyncClient
from scoreline_client.fleet import read_reports, served_models
from tests.acceptance.conftest import MODEL, Fleet, publish_shift
from tests.acceptance.test_worker import Load

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]


@pytest.fixture
def far(fleet: Fleet, s3_url: str) -> Fleet:
    """A fleet whose store is a bucket, with version 1 released."""
    fleet.store = Store(s3_url)
    publish_shift(fleet.store, 1.0)
    releases.promote(fleet.store, MODEL, 1)
    return fleet


@pytest.fixture
def own(far: Fleet, tmp_path: Path) -> Path:
    """The folder of a worker that trusts the publisher's key and has no private one."""
    KeyRing(tmp_path / "worker" / "keys").trust(far.store.ring.export())
    return tmp_path / "worker"


@asynccontextmanager
async def _loaded(fleet: Fleet) -> AsyncIterator[Load]:
    """Requests in flight for as long as the block lasts; every one of them must be answered."""
    async with AsyncClient(settings=fleet.settings) as client:
        load = Load(client)
        running = asyncio.create_task(load.run())
        await _answer(load, 200)
        yield load
        await _answer(load, 200)
        load.stop()
        await running


async def _answer(load: Load, count: int) -> None:
    """Wait for that many answers more."""
    seen = len(load.answers)
    async with asyncio.timeout(30):
        while len(load.answers) < seen + count:  # noqa: ASYNC110 - it sets no event
            await asyncio.sleep(0.01)


async def _promote(fleet: Fleet, version: int) -> tuple[int, str]:
    def run() -> tuple[int, str]:
        done = fleet.scoreline("promote", MODEL, str(version))
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    return await asyncio.to_thread(run)


def _serving(fleet: Fleet) -> set[int | None]:
    reports = served_models(read_reports(fleet.redis, fleet.keys))
    return {models[f"{MODEL}@production"].serving for _, models in reports}


async def test_workers_move_along_with_a_bucket_and_refuse_what_was_changed_in_it(
    far: Fleet, own: Path
) -> None:
    await asyncio.to_thread(far.start_worker, own=own)
    for shift in (2.0, 3.0):
        publish_shift(far.store, shift)
    path = f"{MODEL}/versions/3/{PIPELINE}"
    data = far.store.storage.read(path, limit_bytes=1_000_000)
    far.store.storage.write({path: data[:-1] + bytes([data[-1] ^ 1])})
    async with _loaded(far) as load:
        assert (await _promote(far, 2))[0] == 0
        code, said = await _promote(far, 3)
        assert (code, "not those that were published" in said) == (1, True), said
    assert {answer.version for _, _, answer in load.answers} == {1, 2}
    assert not (own / "keys" / "private.pem").exists()
    assert any((own / "cache" / "files").iterdir())


async def test_a_release_by_a_key_that_workers_do_not_know_waits_until_they_do(
    far: Fleet, own: Path, eventually: Callable[..., Any]
) -> None:
    await asyncio.to_thread(far.start_worker, own=own)
    far.store.ring.generate(rotate=True)
    publish_shift(far.store, 2.0)
    async with _loaded(far) as load:
        code, said = await _promote(far, 2)
        assert (code, "scoreline keys trust" in said) == (1, True), said
        assert _serving(far) == {1}
        KeyRing(own / "keys").trust(far.store.ring.export())
        await asyncio.to_thread(eventually, lambda: _serving(far) == {2})
    assert {answer.version for _, _, answer in load.answers} == {1, 2}
