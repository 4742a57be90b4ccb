"""`/v1` of a real gateway, worker and server: what was accepted is answered, whoever is killed, and the docs' calls work."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import orjson
import pytest
from redis import Redis

from scoreline_artifacts import Store
from scoreline_client.protocol.keys import Keys
from scoreline_tasks.dev.local_worker import (
    WorkerEnvironment,
    local_worker,
    scoreline,
    wait_until_reporting,
)
from scoreline_tasks.dev.server import embedded_server, free_port
from scoreline_training import publish
from scoreline_training.jobs.pima.training import load_split, make_pipeline
from tests.support.http_models import PIMA_ROW
from tests.support.publishing import clean_room_in_this_process, no_report

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

ROOT = Path(__file__).resolve().parents[2]
SECTION = (ROOT / "docs" / "http.md").read_text().partition("## Our own: `/v1`")[2]
CALLS = "\n".join(re.findall(r"^```sh\n(.*?)^```$", SECTION.partition("\n## ")[0], re.S | re.M))
HEADER, ROW = ",".join(PIMA_ROW), ",".join(map(str, PIMA_ROW.values()))
ROWS = 300_000


class Gateway:
    """`scoreline gateway`, which is killed and started again on its port."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._environment = environment
        self._log = log
        self._command = scoreline("gateway", "--port", str(port))

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdout=log, stderr=log
            )
        opener = build_opener(ProxyHandler({}))
        while self._process.poll() is None:
            with suppress(URLError, ConnectionError):
                opener.open(f"{self.url}/version").close()
                return
        pytest.fail(self._log.read_text())

    def stop(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal, and wait for its end."""
        self._process.send_signal(number)
        self._process.wait()

    def curl(self, path: str, *options: str) -> bytes:
        """What curl prints."""
        command = ["curl", "-sS", "--fail-with-body", "--noproxy", "*", *options, self.url + path]
        done = subprocess.run(command, capture_output=True, check=False)
        assert done.returncode == 0, (done.stdout, done.stderr)
        return done.stdout

    def json(self, path: str, *options: str) -> Any:
        """The same, read."""
        return orjson.loads(self.curl(path, *options))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, Any]]:
    """A gateway, and a worker that serves Pima."""
    folder = tmp_path_factory.mktemp("service")
    split = load_split()
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name in ("keys", "cache"):
            patch.setenv(f"SCORELINE_{name.upper()}", str(folder / name))
        with clean_room_in_this_process(), no_report():
            fitted = make_pipeline().fit(split.X_train, split.y_train)
            publish(fitted, "pima", split.X_train, store=Store(folder / "store"), promote=True)
        url = stack.enter_context(embedded_server())
        where = WorkerEnvironment(redis_url=url, artifacts=folder / "store", own=folder)
        output = stack.enter_context((folder / "worker.log").open("wb"))
        worker = stack.enter_context(local_worker(where, concurrency=1, output=output))
        with Redis.from_url(url) as redis:
            wait_until_reporting(worker, redis, Keys("default"), model="pima")
        environment = {
            **os.environ,
            **where.environment,
            "SCORELINE_GATEWAY_FILES": str(folder / "files"),
        }
        gateway = Gateway(environment, folder / "gateway.log")
        gateway.start()
        yield gateway, worker
        gateway.stop(signal.SIGTERM)


@pytest.fixture
def gateway(service: tuple[Gateway, Any]) -> Gateway:
    """The gateway, which a test may kill if it starts it again."""
    return service[0]


def test_the_calls_of_the_docs_work(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(f"{HEADER}\n{ROW}\n{ROW.replace('148', 'high')}\n")
    done = subprocess.run(
        ["bash", "-eux", "-c", CALLS],
        cwd=tmp_path,
        env={**os.environ, "GATEWAY": gateway.url, "no_proxy": "127.0.0.1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"value":1' in done.stdout
    assert "E_MISSING_COLUMN" in done.stdout
    assert "event: end" in done.stdout
    scored = (tmp_path / "out.csv").read_text().splitlines()
    assert scored[1].startswith(f"{ROW},1,")
    assert (tmp_path / "big.csv").read_text().splitlines() == scored
    assert "E_TYPE" in (tmp_path / "rejected.csv").read_text()


def test_a_job_outlives_the_gateway_that_took_it(gateway: Gateway) -> None:
    body = orjson.dumps([PIMA_ROW]).decode()
    key = 'Idempotency-Key: "outlives"'
    job = gateway.json("/v1/models/pima/jobs", "--json", body, "-H", key)
    gateway.stop()
    gateway.start()
    again = gateway.json("/v1/models/pima/jobs", "--json", body, "-H", key)
    assert again["id"] == job["id"]
    result = gateway.json(f"/v1/jobs/{job['id']}/result", "-H", "Prefer: wait=30")
    assert result["predictions"][0]["value"] == 1


def test_a_file_and_its_download_go_on_when_the_gateway_is_killed(
    service: tuple[Gateway, Any], tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    gateway, worker = service
    with (tmp_path / "in.csv").open("w") as file:
        file.write(f"id,{HEADER}\n")
        file.writelines(f"{number},{ROW}\n" for number in range(ROWS))
    accepted = gateway.curl(
        "/v1/models/pima/score", "-T", str(tmp_path / "in.csv"), "-H", "Prefer: respond-async"
    )
    where = f"/v1/jobs/{orjson.loads(accepted)['id']}"
    eventually(lambda: gateway.json(where).get("rows"))
    # It cannot be done before the gateway is dead.
    os.killpg(worker.pid, signal.SIGSTOP)
    assert gateway.json(where)["status"] == "running"
    gateway.stop()
    os.killpg(worker.pid, signal.SIGCONT)
    gateway.start()
    done = eventually(lambda: (state := gateway.json(where))["status"] == "done" and state)
    assert (done["rows"], done["rejected"]) == (ROWS, 0)

    part = tmp_path / "out.csv"
    command = ["curl", "-s", "--noproxy", "*", "-o", str(part), f"{gateway.url}{where}/result"]
    with subprocess.Popen([*command, "--limit-rate", "100k"]) as download:
        eventually(lambda: part.exists() and part.stat().st_size)
        gateway.stop()
    assert download.returncode == 18  # a part only
    gateway.start()
    subprocess.run([*command, "-C", "-"], check=True)
    lines = part.read_text().splitlines()
    assert [line.partition(",")[0] for line in lines[1:]] == list(map(str, range(ROWS)))
    assert {line.partition(",")[2] for line in lines[1:]} == {lines[1].partition(",")[2]}
