"""Running workers move to a new version on a signal, and stay where they are when it is a bad one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scoreline_artifacts import Store
from scoreline_artifacts.manifest import GOLDEN, MANIFEST, Manifest
from scoreline_artifacts.store import releases
from scoreline_artifacts.store.store import describe_file
from scoreline_client import AsyncClient, Client
from scoreline_client.fleet import announce_release, convergence, read_reports
from tests.acceptance.conftest import MODEL, Fleet, kill_child, kill_group, publish_shift
from tests.acceptance.test_worker import Load
from tests.conftest import WAIT_S
from tests.support.stores import rewrite_manifest

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]


@pytest.mark.parametrize("processes", [1, 4])
async def test_promoting_under_load_fails_no_request_and_every_answer_names_its_version(
    fleet: Fleet, processes: int
) -> None:
    await asyncio.to_thread(fleet.start_worker, processes)
    assert publish_shift(fleet.store, 2.0) == 2
    async with AsyncClient(settings=fleet.settings) as client:
        load = Load(client)
        running = asyncio.create_task(load.run())
        await _until(lambda: len(load.answers) > 1000)
        promoted = await asyncio.to_thread(fleet.scoreline, "promote", MODEL, "2")
        assert promoted.returncode == 0, promoted
        assert f"all {processes} worker processes report that they serve" in promoted.stdout
        seen = len(load.answers)
        await _until(lambda: len(load.answers) > seen + 500)
        load.stop()
        await running
    assert {answer.version for _, _, answer in load.answers} == {1, 2}
    # Once promote has said that all serve it, nothing else answers.
    assert {answer.version for _, _, answer in load.answers[seen + 64 :]} == {2}
    # Children that leave in order are nothing to worry an operator with.
    assert not [line for line in fleet.log.read_text().splitlines() if _is_worrying(line)]
    # What it serves is said at its start, and not what its drains do every two seconds.
    assert "worker_serves queue=default server=Valkey" in fleet.log.read_text()
    assert f"{MODEL}@production=1" in fleet.log.read_text()
    assert "scoreline.drain[" not in fleet.log.read_text()


def test_a_version_that_fails_its_golden_rows_is_refused_and_the_old_one_serves_on(
    fleet: Fleet,
) -> None:
    fleet.start_worker()
    publish_shift(fleet.store, 2.0)
    _falsify_golden_rows(fleet, 2)
    promoted = fleet.scoreline("promote", MODEL, "2")
    assert promoted.returncode == 1, promoted
    assert "golden rows" in promoted.stdout
    assert "golden rows" in fleet.scoreline("status", "--json").stdout
    with Client(settings=fleet.settings) as client:
        assert client.predict(MODEL, {"x": 1.0}).version == 1


def test_a_release_in_another_store_is_no_release_for_the_workers(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.start_worker(1)
    own = fleet.store
    fleet.store = Store(tmp_path / "elsewhere")
    assert publish_shift(fleet.store, 5.0) == 1
    promoted = fleet.scoreline("promote", MODEL, "1", "--json")
    said = json.loads(promoted.stdout)
    assert (promoted.returncode, said["serving"]) == (1, [])
    assert list(said["elsewhere"].values()) == [str(own.root)]
    assert said["store"] == str(fleet.store.root)
    assert f"artifact store {own.root}" in fleet.scoreline("status").stdout
    asked = fleet.scoreline("predict", "nobody", "{}")
    assert "`scoreline status` says which one that is" in asked.stderr
    assert str(own.root) not in asked.stderr
    fleet.store = own
    promoted = fleet.scoreline("promote", MODEL, "1", "--json")
    assert (promoted.returncode, json.loads(promoted.stdout)["elsewhere"]) == (0, {})


def test_a_worker_that_starts_with_a_refused_version_serves_the_one_before(fleet: Fleet) -> None:
    publish_shift(fleet.store, 2.0)
    _falsify_golden_rows(fleet, 2)
    releases.promote(fleet.store, MODEL, 2)
    fleet.start_worker()
    with Client(settings=fleet.settings) as client:
        assert client.predict(MODEL, {"x": 1.0}).version == 1


async def test_a_child_that_is_killed_during_a_release_is_replaced_by_one_of_the_new_version(
    fleet: Fleet,
) -> None:
    worker = await asyncio.to_thread(fleet.start_worker)
    publish_shift(fleet.store, 2.0)
    async with AsyncClient(settings=fleet.settings) as client:
        load = Load(client)
        running = asyncio.create_task(load.run())
        await _until(lambda: len(load.answers) > 200)
        releases.promote(fleet.store, MODEL, 2)
        announce_release(fleet.redis, fleet.keys, MODEL)
        for _ in range(3):
            await _until(kill_child(worker, 0))
        await _until(lambda: _converged(fleet, 2, processes=2))
        seen = len(load.answers)
        await _until(lambda: len(load.answers) > seen + 200)
        load.stop()
        await running
    assert {answer.version for _, _, answer in load.answers[seen + 64 :]} == {2}


def test_a_worker_that_is_killed_during_a_release_starts_with_the_new_version(
    fleet: Fleet,
) -> None:
    worker = fleet.start_worker()
    publish_shift(fleet.store, 2.0)
    with Client(settings=fleet.settings) as client:
        assert client.predict(MODEL, {"x": 1.0}).version == 1
        releases.promote(fleet.store, MODEL, 2)
        announce_release(fleet.redis, fleet.keys, MODEL)
        kill_group(worker)
        job = client.submit(MODEL, [{"x": 1.0}])
        fleet.start_worker()
        assert job.result(timeout=40)[0].version == 2


@pytest.mark.parametrize("pool", ["solo", pytest.param("threads", marks=pytest.mark.exhaustive)])
def test_a_pool_that_does_not_fork_swaps_to_the_new_version_by_itself(
    fleet: Fleet, pool: str
) -> None:
    fleet.start_worker(1, "--pool", pool)
    publish_shift(fleet.store, 2.0)
    with Client(settings=fleet.settings) as client:
        assert client.predict(MODEL, {"x": 1.0}).version == 1
        promoted = fleet.scoreline("promote", MODEL, "2")
        assert promoted.returncode == 0, promoted
        assert client.predict(MODEL, {"x": 1.0}).version == 2


def _is_worrying(line: str) -> bool:
    # The server of the tests keeps no AOF, which is worth a warning.
    is_caution = "caution: appendonly is off" in line
    levels = ("WARNING", "ERROR", "CRITICAL")
    return not is_caution and any(f": {level}/" in line for level in levels)


def _converged(fleet: Fleet, version: int, processes: int) -> bool:
    serving, refusing, waiting = _convergence(fleet, version)
    return len(serving) == processes and not refusing and not waiting


def _convergence(fleet: Fleet, version: int) -> Any:
    reports = read_reports(fleet.redis, fleet.keys)
    return convergence(reports, MODEL, "production", version)


def _falsify_golden_rows(fleet: Fleet, version: int) -> None:
    """An artifact that is whole, and promises answers that its pipeline does not give."""
    path = fleet.store.path(MODEL, version)
    rows = (path / GOLDEN).read_text().splitlines()
    first = json.loads(rows[0]) | {"value": 12345.0}
    data = "\n".join([json.dumps(first), *rows[1:]]).encode() + b"\n"
    (path / GOLDEN).write_bytes(data)
    values = json.loads((path / MANIFEST).read_bytes())
    entry = describe_file(data)
    values["files"][GOLDEN] = {"size": entry.size, "sha256": entry.sha256}
    rewrite_manifest(fleet.store, MODEL, version, json.dumps(values).encode())
    assert Manifest.decode((path / MANIFEST).read_bytes()).files[GOLDEN] == entry


async def _until(question: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not question():  # noqa: ASYNC110 - what it asks about sets no event
            await asyncio.sleep(0.01)
