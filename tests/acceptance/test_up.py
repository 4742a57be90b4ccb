"""`scoreline up` and the embedded server: both run until they are told to stop, and leave nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from redis import Redis

from scoreline_client.fleet import read_reports
from scoreline_client.protocol.keys import Keys
from scoreline_tasks.dev.local_worker import scoreline
from scoreline_tasks.dev.server import embedded_server, free_port, is_redis

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(90)]


@contextmanager
def _up(place: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    command = scoreline("up", "--port", str(port), "--concurrency", "1")
    with (place / "said").open("wb") as output:
        child = subprocess.Popen(command, cwd=place, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield child
    finally:
        child.terminate()
        child.wait(30)


def _serves(url: str) -> bool:
    with Redis.from_url(url) as redis:
        return is_redis(url) and bool(read_reports(redis, Keys("default")))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda one: one.name)
def test_up_serves_until_it_is_stopped_and_stops_both(
    tmp_path: Path, number: signal.Signals, eventually: Callable[..., Any]
) -> None:
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    with _up(tmp_path, port) as child:
        eventually(lambda: _serves(url))
        eventually(lambda: "The worker is ready" in (tmp_path / "said").read_text())
        family = psutil.Process(child.pid).children(recursive=True)
        child.send_signal(number)
        assert child.wait(30) == 0
    assert url in (tmp_path / "said").read_text()
    assert [one for one in family if one.is_running()] == []


def test_up_fails_when_its_worker_dies(tmp_path: Path, eventually: Callable[..., Any]) -> None:
    port = free_port()
    with _up(tmp_path, port) as child:
        eventually(lambda: _serves(f"redis://127.0.0.1:{port}/0"))
        workers = psutil.Process(child.pid).children()
        next(one for one in workers if "celery" in one.cmdline()).kill()
        assert child.wait(30) == 1
    assert "the worker ended by itself" in (tmp_path / "said").read_text()


def test_up_says_what_to_do_when_the_port_has_a_redis_already(tmp_path: Path) -> None:
    with embedded_server() as url:
        port = url.split(":")[2].partition("/")[0]
        done = subprocess.run(
            scoreline("up", "--port", port),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert f"port {port} of 127.0.0.1 is taken: a Redis server answers" in done.stderr
    assert f"scoreline up --port {int(port) + 1}" in done.stderr


def test_the_server_of_the_procfile_keeps_its_data_over_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., Any]
) -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    monkeypatch.setenv("SCORELINE_REDIS_URL", url)
    for expected in (1, 2):
        command = [sys.executable, "-m", "scoreline_tasks.dev.server"]
        server = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
        eventually(lambda: is_redis(url))
        with Redis.from_url(url) as redis:
            assert redis.incr("kept") == expected
        server.terminate()
        assert server.wait(20) == 0
    assert not is_redis(url)
