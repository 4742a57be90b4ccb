"""The README's examples run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis

from scoreline_client.protocol.keys import Keys
from scoreline_tasks.dev.local_worker import WorkerEnvironment, local_worker, wait_until_reporting
from scoreline_tasks.dev.server import embedded_server

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]


def test_training_publishing_and_predicting_work_while_a_worker_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    log = (tmp_path / "worker.log").open("wb")
    with embedded_server() as url, Redis.from_url(url) as redis, log:
        where = WorkerEnvironment(redis_url=url, artifacts=store)
        for name, value in where.environment.items():
            monkeypatch.setenv(name, value)
        with local_worker(where, concurrency=1, output=log) as worker:
            wait_until_reporting(worker, redis, Keys("default"))
            done = subprocess.run(
                [sys.executable, "-c", EXAMPLES[0]], capture_output=True, text=True, check=False
            )
    assert done.returncode == 0, done.stderr
    published, first, *several, missing = done.stdout.splitlines()
    assert published == f"loans 1 {store / 'loans' / 'versions' / '1'}"
    assert first.endswith("loans 1")
    assert several[0].endswith("None")
    assert "E_TYPE" in several[1]
    assert missing.startswith("E_MISSING_COLUMN income")


def test_the_unit_test_of_the_readme_passes(tmp_path: Path) -> None:
    (tmp_path / "test_loans.py").write_text(EXAMPLES[1])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 passed" in done.stdout, done.stdout + done.stderr
