"""A gateway of two processes before real workers: nothing that it accepted is lost through a release and a worker's death."""

from __future__ import annotations

import http.client
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from scoreline_artifacts import Store
from scoreline_artifacts.store import releases
from scoreline_client.cli.acl import Role
from scoreline_client.fleet import announce_release
from tests.acceptance.conftest import MODEL, Fleet, kill_group, publish_shift
from tests.support.gateway import running_gateway

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

FACES: dict[str, tuple[Callable[[float], Any], Callable[[Any], Any]]] = {
    f"/v2/models/{MODEL}/infer": (
        lambda x: {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [x]}]},
        lambda told: told["outputs"][0]["data"][0],
    ),
    f"/models/{MODEL}/invocations": (
        lambda x: {"dataframe_records": [{"x": x}]},
        lambda told: told["predictions"][0],
    ),
    f"/v1/models/{MODEL}:predict": (lambda x: {"x": x}, lambda told: told["value"]),
}
"""What each face is asked for a value of x, and where its answer is."""
RECORDS = 5000


@pytest.fixture
def fleet(guarded: Callable[[Role], str], tmp_path: Path) -> Iterator[Fleet]:
    """A fleet on a server with the printed users; its own connection is the administrator's."""
    store = Store(tmp_path / "store")
    publish_shift(store, 1.0)
    releases.promote(store, MODEL, 1)
    url = guarded(Role.WORKER)
    admin = url.replace("scoreline-default-worker", "admin")
    with ExitStack() as stack, Redis.from_url(admin) as redis:
        yield Fleet(url, redis, store, tmp_path / "worker.log", stack)


class Callers:
    """One caller for each face, who asks one record after the other; all answers must be right, whatever happens."""

    def __init__(self, url: str) -> None:
        self.address = url.removeprefix("http://")
        self.answered: Counter[tuple[str, int]] = Counter()
        """By path and version."""
        self.wrong: list[object] = []
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(path,)) for path in FACES]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def have(self, version: int, more_than: Counter[tuple[str, int]]) -> bool:
        """Whether each of them was answered by a version since then, or something went wrong."""
        return bool(self.wrong) or all(
            self.answered[path, version] > more_than[path, version] for path in FACES
        )

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        """Ask once, on a connection of its own."""
        connection = http.client.HTTPConnection(self.address, timeout=60)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body)
        connection.request(method, path, data, {"Content-Type": "application/json", **headers})
        reply = connection.getresponse()
        answer = reply.status, reply.read()
        connection.close()
        return answer

    def _ask(self, path: str) -> None:
        body_of, value_of = FACES[path]
        headers = {"Content-Type": "application/json"}
        x = 0.0
        with closing(http.client.HTTPConnection(self.address, timeout=60)) as connection:
            while not self._is_over.wait(0.005) and not self.wrong:
                x = (x + 1) % 1000
                try:
                    connection.request("POST", path, json.dumps(body_of(x)), headers)
                    reply = connection.getresponse()
                    told = json.loads(reply.read())
                    version = round(value_of(told) - x)
                    assert (reply.status, version) in ((200, 1), (200, 2)), told
                    self.answered[path, version] += 1
                # Whatever it is, a caller has not got its answer.
                except Exception as error:  # noqa: BLE001
                    self.wrong.append((path, error))


def test_every_face_answers_through_a_release_and_the_death_of_a_worker(
    fleet: Fleet,
    guarded: Callable[[Role], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[..., Any],
) -> None:
    monkeypatch.setenv("SCORELINE_LOG", "json")
    worker = fleet.start_worker(2)
    environment = fleet.environment | {
        "SCORELINE_REDIS_URL": guarded(Role.GATEWAY),
        "SCORELINE_GATEWAY_FILES": str(tmp_path / "files"),
    }
    with (
        (tmp_path / "gateway.log").open("wb") as log,
        running_gateway(environment, "--workers", "2", "--log-level", "info", log=log) as url,
        Callers(url) as callers,
    ):
        eventually(lambda: callers.have(1, Counter()))
        releases.promote(fleet.store, MODEL, publish_shift(fleet.store, 2.0))
        announce_release(fleet.redis, fleet.keys, MODEL)
        eventually(lambda: callers.have(2, Counter()))

        kill_group(worker)
        records = [{"x": float(number)} for number in range(RECORDS)]
        status, told = callers.ask("POST", f"/v1/models/{MODEL}/jobs", records)
        assert status == 202
        job = json.loads(told)["id"]
        with closing(http.client.HTTPConnection(callers.address, timeout=60)) as following:
            following.request("GET", f"/v1/jobs/{job}/events")
            events = following.getresponse()
            assert events.readline() == b"event: status\n"
            before = callers.answered.copy()
            fleet.start_worker(1, "--loglevel=DEBUG")
            eventually(lambda: callers.have(2, before))
            assert b"event: end\n" in events.read()
        _, told = callers.ask("GET", f"/v1/jobs/{job}/result")
        predictions = json.loads(told)["predictions"]
        assert [round(one["value"]) for one in predictions] == list(range(2, RECORDS + 2))

        file = ("x\n" + "1\n" * 1000).encode()
        status, scored = callers.ask("PUT", f"/v1/models/{MODEL}/score", file, **{"Content-Type": "text/csv"})  # fmt: skip
        assert (status, scored.count(b"\n")) == (200, 1001)
        with closing(http.client.HTTPConnection(callers.address, timeout=60)) as watching:
            watching.request("GET", "/status/events")
            with watching.getresponse() as stream:
                assert stream.readline() == b"event: glance\n"
        callers.__exit__()
        assert callers.wrong == []

        def counted() -> int:
            _, text = callers.ask("GET", "/metrics")
            found = re.findall(
                rb'scoreline_http_requests_total{method="POST",route="[^"]*(?:infer|invocations|predict)",status="200"} (\d+)',
                text,
            )
            return sum(map(int, found))

        # Those of both processes, whichever of them is asked.
        eventually(lambda: counted() == callers.answered.total())
    refused = {(one["username"], one["object"], one["reason"]) for one in fleet.redis.acl_log()}
    assert refused == set()
    _check_logs((tmp_path / "gateway.log").read_text(), fleet.log.read_text(), job)


def _check_logs(gateway: str, worker: str, job: str) -> None:
    """Check that a job is found in both logs, from its request to its batch, and that each line is an object."""
    of_gateway = [json.loads(line) for line in gateway.splitlines()]
    answered = [line for line in of_gateway if line.get("event") == "request_answered"]
    submitted = next(line for line in answered if line["route"] == "/v1/models/{model}/jobs")
    assert (submitted["method"], submitted["status"], submitted["caller"]) == (
        "POST",
        202,
        "anybody",
    )
    assert any(line["path"] == f"/v1/jobs/{job}/result" for line in answered)
    # Celery prints what it is before it logs.
    of_worker = [json.loads(line) for line in worker.splitlines() if line.startswith("{")]
    scored = next(
        line
        for line in of_worker
        if line.get("event") == "batch_scored" and job in line["requests"]
    )
    assert (scored["model"], scored["version"], scored["records"]) == (MODEL, 2, RECORDS)
    assert any(line["logger"].startswith("celery") for line in of_worker)
