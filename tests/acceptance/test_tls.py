"""A real worker and its callers over TLS, with an authority of one's own: all connections are verified, or nothing is said."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme

from scoreline_client import Client
from scoreline_client.errors import UntrustedServer
from scoreline_tasks.dev.local_worker import WorkerEnvironment, local_worker
from tests.acceptance.conftest import MODEL, POOLS, Fleet
from tests.support.tls import tls_front

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]

NAME = "localhost"


@pytest.fixture
def secured(fleet: Fleet, tmp_path: Path) -> Iterator[tuple[trustme.CA, Callable[[int], str]]]:
    """An authority, and what gives the URL of a port, with a password and the authority's certificate."""
    authority, word = trustme.CA(), secrets.token_hex(8)
    trusted = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(trusted))
    fleet.redis.acl_setuser("app", enabled=True, passwords=[f"+{word}"], keys=["*"], categories=["+@all"], channels=["*"])  # fmt: skip
    yield authority, lambda port: f"rediss://app:{word}@{NAME}:{port}/0?ssl_ca_certs={trusted}"
    fleet.redis.acl_deluser("app")


@pytest.mark.parametrize("pool", POOLS)
def test_a_worker_and_its_callers_verify_the_server(
    fleet: Fleet, secured: Any, valkey_server: Any, pool: str, eventually: Callable[..., Any]
) -> None:
    authority, url_of = secured
    with tls_front(valkey_server.port, authority.issue_cert(NAME)) as front:
        url = url_of(front.port)
        over_tls = replace(fleet, url=url)
        worker = over_tls.start_worker(1, "-P", pool)
        with Client(url) as client:
            assert client.predict(MODEL, {"x": 1.0}, timeout=20).value == pytest.approx(2.0)
            job = client.submit(MODEL, [{"x": 2.0}])
            assert job.result(timeout=20)[0].value == pytest.approx(3.0)
        done = over_tls.scoreline("status")
        assert done.returncode == 0, done.stdout + done.stderr
        worker.terminate()
        worker.wait(30)
    # The worker's Celery connection is among those that came this way.
    assert b"scoreline.default" in front.received
    if pool == "prefork":
        _is_refused(fleet, url_of, valkey_server, eventually)


def _is_refused(
    fleet: Fleet, url_of: Callable[[int], str], valkey_server: Any, eventually: Callable[..., Any]
) -> None:
    """In the server's place is one whose certificate another authority has signed."""
    with tls_front(valkey_server.port, trustme.CA().issue_cert(NAME)) as false:
        url = url_of(false.port)
        with Client(url) as client, pytest.raises(UntrustedServer):
            client.predict(MODEL, {"x": 1.0}, timeout=20)
        log = fleet.log.with_name("refused.log")
        where = WorkerEnvironment(redis_url=url, artifacts=fleet.store.root)
        with log.open("wb") as output, local_worker(where, concurrency=1, output=output):
            eventually(lambda: "certificate verify failed" in log.read_text())
        assert url.partition("app:")[2].partition("@")[0] not in log.read_text()
    assert false.received == b""
