"""Whatever an artifact does when it is loaded, what served before goes on serving, and people learn why."""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from scoreline_artifacts.store import releases
from scoreline_client import AsyncClient, Client, RequestRefused
from scoreline_client.fleet import announce_release
from tests.acceptance.conftest import (
    MODEL,
    Fleet,
    children_of,
    kill_group,
    lives,
    publish_evil,
    publish_shift,
)
from tests.acceptance.test_worker import Load

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

LIMIT_S = 15
LIMIT_MB = 500
GREED = "[bytearray(1 << 24) for _ in range(1 << 16)]"
EVIL: list[tuple[Callable[..., object], object, str]] = [
    (ctypes.string_at, 0, "ended with signal SIGSEGV"),
    (os._exit, 0, "ended with exit code 0"),
    (eval, GREED, f"needed more than {LIMIT_MB} MiB of memory"),
    (time.sleep, 3600, f"took longer than {LIMIT_S} s"),
]


@pytest.fixture(autouse=True)
def _limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORELINE_LOAD_LIMIT_S", str(LIMIT_S))
    monkeypatch.setenv("SCORELINE_LOAD_LIMIT_MB", str(LIMIT_MB))


async def test_what_faults_exits_hangs_or_eats_memory_costs_no_request_and_is_explained(
    fleet: Fleet,
) -> None:
    worker = await asyncio.to_thread(fleet.start_worker)
    before = {child.pid for child in children_of(worker)}
    async with AsyncClient(settings=fleet.settings) as client:
        load = Load(client)
        running = asyncio.create_task(load.run())
        for act, argument, reason in EVIL:
            version = publish_evil(fleet.store, act, argument)
            promoted = await asyncio.to_thread(
                fleet.scoreline, "promote", MODEL, str(version), "--timeout", "60"
            )
            assert promoted.returncode == 1, promoted
            assert reason in " ".join(promoted.stdout.split())
        status = await asyncio.to_thread(fleet.scoreline, "status", "--json")
        assert EVIL[-1][2] in status.stdout
        assert {answer.version for _, _, answer in load.answers} == {1}
        assert {child.pid for child in children_of(worker)} == before
        # It is compared with what is in production, which hangs: that takes its time.
        good = await asyncio.to_thread(publish_shift, fleet.store, 6.0)
        promoted = await asyncio.to_thread(fleet.scoreline, "promote", MODEL, str(good))
        assert promoted.returncode == 0, promoted
        load.stop()
        await running


def test_a_worker_that_starts_with_an_evil_version_serves_the_one_before(fleet: Fleet) -> None:
    releases.promote(fleet.store, MODEL, publish_evil(fleet.store, ctypes.string_at, 0))
    fleet.start_worker()
    with Client(settings=fleet.settings) as client:
        assert client.predict(MODEL, {"x": 1.0}).version == 1
    assert "SIGSEGV" in fleet.scoreline("status", "--json").stdout


def test_asking_for_an_evil_version_by_its_number_kills_nobody(fleet: Fleet) -> None:
    worker = fleet.start_worker()
    before = {child.pid for child in children_of(worker)}
    version = publish_evil(fleet.store, ctypes.string_at, 0)
    with Client(settings=fleet.settings) as client:
        for _ in range(3):
            with pytest.raises(RequestRefused, match="SIGSEGV"):
                client.predict(f"{MODEL}@{version}", {"x": 1.0}, timeout=40)
        assert client.predict(MODEL, {"x": 1.0}).version == 1
    assert {child.pid for child in children_of(worker)} == before


def test_a_trial_ends_with_its_worker(fleet: Fleet, eventually: Callable[..., Any]) -> None:
    worker = fleet.start_worker()
    pool = {child.pid for child in children_of(worker)}
    releases.promote(fleet.store, MODEL, publish_evil(fleet.store, time.sleep, 3600))
    announce_release(fleet.redis, fleet.keys, MODEL)
    (trial,) = eventually(
        lambda: [one for one in psutil.Process(worker.pid).children() if one.pid not in pool]
    )
    kill_group(worker)
    eventually(lambda: not lives(trial))
