"""The embedded server: durable, never evicting, its data nobody else's, and gone with its block."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from redis import Redis
from redis.exceptions import AuthenticationError

from scoreline_tasks.dev.server import (
    EmbeddedServerError,
    PortTaken,
    data_of,
    embedded_server,
    free_port,
    is_redis,
    port_of,
)

pytestmark = pytest.mark.integration


def test_it_keeps_every_write_and_evicts_nothing() -> None:
    with embedded_server() as url, Redis.from_url(url) as redis:
        found = redis.config_get("appendonly", "appendfsync", "maxmemory-policy", "save")
    assert found == {
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "save": "",
    }


def test_its_data_outlive_it_where_a_directory_was_named(tmp_path: Path) -> None:
    for expected in (1, 2):
        with embedded_server(data=tmp_path) as url, Redis.from_url(url) as redis:
            assert redis.incr("kept") == expected


def test_its_data_are_no_other_users(tmp_path: Path) -> None:
    """Requests, answers and its password are in them."""
    data = tmp_path / "data"
    with (
        embedded_server(data=data, password="word") as url,
        Redis.from_url(url) as redis,
    ):
        redis.set("request", "a name")
        with Redis.from_url(url.replace(":word@", "")) as other, pytest.raises(AuthenticationError):
            other.get("request")
        made = [data, *data.rglob("*")]
    assert any(path.name.endswith(".aof") for path in made)
    assert data.stat().st_mode & 0o777 == 0o700
    # The log and the file of settings are older than the server; nobody else comes into the folder.
    assert [path for path in made if path.parent != data and path.stat().st_mode & 0o077] == []


@pytest.mark.parametrize(("size", "is_taken"), [(1 << 24, True), ((1 << 26) + 1, False)])
def test_it_takes_no_text_that_is_far_larger_than_a_request_may_be(
    size: int, is_taken: bool
) -> None:
    """It refuses the length, before it has room for the text."""
    with embedded_server() as url, socket.create_connection(("127.0.0.1", port_of(url))) as caller:
        caller.settimeout(20)
        caller.sendall(b"*5\r\n$4\r\nXADD\r\n$4\r\nlane\r\n$1\r\n*\r\n$4\r\nbody\r\n$%d\r\n" % size)
        if is_taken:
            caller.sendall(b"x" * size + b"\r\n")
            assert caller.recv(100).startswith(b"$")
        else:
            assert b"invalid bulk length" in caller.recv(100)


def test_no_process_is_left() -> None:
    with embedded_server() as url, Redis.from_url(url) as redis:
        pid = redis.info("server")["process_id"]
        assert psutil.pid_exists(pid)
    assert not psutil.pid_exists(pid)


def test_ctrl_c_in_a_terminal_reaches_only_its_owner() -> None:
    with embedded_server() as url, Redis.from_url(url) as redis:
        assert os.getpgid(redis.info("server")["process_id"]) != os.getpgid(0)


def test_a_taken_port_is_refused_and_says_by_what() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        taken.settimeout(0)
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=f"port {port} .* another program"):
            embedded_server(port=port).__enter__()


def test_its_data_may_be_in_a_folder_with_a_space_in_its_name(tmp_path: Path) -> None:
    for expected in (1, 2):
        with embedded_server(data=tmp_path / "my data") as url, Redis.from_url(url) as redis:
            assert redis.incr("kept") == expected


def test_a_server_that_does_not_start_shows_its_log(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedServerError, match="FATAL CONFIG FILE ERROR"):
        embedded_server(data=tmp_path, options={"no-such-option": "1"}).__enter__()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not kill it")
def test_it_does_not_outlive_an_owner_that_is_killed(
    tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    port = free_port()
    environment = {**os.environ, "SCORELINE_REDIS_URL": f"redis://127.0.0.1:{port}"}
    command = [sys.executable, "-m", "scoreline_tasks.dev.server"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment) as owner:
        eventually(lambda: is_redis(f"redis://127.0.0.1:{port}"))
        owner.kill()
    eventually(lambda: not is_redis(f"redis://127.0.0.1:{port}"))


@pytest.mark.parametrize(
    ("url", "port"), [("redis://localhost", 6379), ("redis://127.0.0.1:7000/3", 7000)]
)
def test_it_listens_where_the_settings_look(url: str, port: int) -> None:
    assert port_of(url) == port


@pytest.mark.parametrize("url", ["redis://queue.internal:6379/0", "unix:///run/redis.sock"])
def test_it_does_not_stand_in_for_a_server_elsewhere(url: str) -> None:
    with pytest.raises(EmbeddedServerError, match="this machine only"):
        port_of(url)


def test_two_servers_never_share_a_directory(tmp_path: Path) -> None:
    assert data_of(6379, tmp_path) != data_of(6380, tmp_path)
