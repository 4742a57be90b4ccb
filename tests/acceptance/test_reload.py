"""Running workers move to a new version on a signal, and stay where they are when it is a bad one."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from scoreline_artifacts import releases
from scoreline_artifacts.manifest import GOLDEN, MANIFEST, Manifest
from scoreline_artifacts.store import describe_file
from scoreline_client import AsyncClient, Client
from scoreline_client.fleet import convergence, read_reports
from tests.acceptance.conftest import MODEL, Fleet, publish_shift
from tests.acceptance.test_worker import Load
from tests.signed import rewrite_manifest

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]

_MAIN = "import sys; from scoreline_client.cli import main; sys.exit(main())"


def scoreline(fleet: Fleet, *arguments: str) -> list[str]:
    return [sys.executable, "-c", _MAIN, *arguments]


def environment(fleet: Fleet) -> dict[str, str]:
    import os

    return {
        **os.environ,
        "SCORELINE_REDIS_URL": fleet.url,
        "SCORELINE_ARTIFACTS": str(fleet.store.root),
    }


async def test_promoting_under_load_fails_no_request_and_every_answer_names_its_version(
    fleet: Fleet,
) -> None:
    await asyncio.to_thread(fleet.start_worker)
    assert publish_shift(fleet.store, 2.0) == 2
    async with AsyncClient(settings=fleet.settings) as client:
        load = Load(client)
        running = asyncio.create_task(load.run())
        await _until(lambda: len(load.answers) > 1000)
        command = scoreline(fleet, "promote", MODEL, "2")
        promote = await asyncio.create_subprocess_exec(
            *command, env=environment(fleet), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        output, _ = await promote.communicate()
        assert promote.returncode == 0, output.decode()
        assert b"all 2 worker processes serve" in output
        seen = len(load.answers)
        await _until(lambda: len(load.answers) > seen + 500)
        load.stop()
        await running
    assert {answer.version for _, _, answer in load.answers} == {1, 2}
    # Once promote has said that all serve it, nothing else answers.
    assert {answer.version for _, _, answer in load.answers[seen + 64 :]} == {2}


def test_workers_move_though_the_news_got_lost(
    fleet: Fleet, eventually: Callable[..., Any]
) -> None:
    fleet.start_worker()
    publish_shift(fleet.store, 2.0)
    releases.promote(fleet.store, MODEL, 2)  # and nobody announces it
    eventually(lambda: len(_convergence(fleet, 2)[0]) == 2)
    with Client(settings=fleet.settings) as client:
        assert client.predict(MODEL, {"x": 1.0}).version == 2


def test_a_version_that_fails_its_golden_rows_is_refused_and_the_old_one_serves_on(
    fleet: Fleet,
) -> None:
    fleet.start_worker()
    publish_shift(fleet.store, 2.0)
    _falsify_golden_rows(fleet, 2)
    promoted = subprocess.run(
        scoreline(fleet, "promote", MODEL, "2"),
        env=environment(fleet),
        capture_output=True,
        text=True,
        check=False,
    )
    said = " ".join((promoted.stdout + promoted.stderr).split())
    assert promoted.returncode == 1, said
    assert "golden rows" in said
    status = subprocess.run(
        scoreline(fleet, "status", "--json"),
        env=environment(fleet),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "golden rows" in json.dumps(json.loads(status.stdout))
    with Client(settings=fleet.settings) as client:
        assert client.predict(MODEL, {"x": 1.0}).version == 1


def test_a_worker_that_starts_with_a_refused_version_serves_the_one_before(fleet: Fleet) -> None:
    publish_shift(fleet.store, 2.0)
    _falsify_golden_rows(fleet, 2)
    releases.promote(fleet.store, MODEL, 2)
    fleet.start_worker()
    with Client(settings=fleet.settings) as client:
        assert client.predict(MODEL, {"x": 1.0}).version == 1


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
    async with asyncio.timeout(30):
        while not question():  # noqa: ASYNC110 - what it asks about sets no event
            await asyncio.sleep(0.01)
