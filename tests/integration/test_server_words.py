"""A server that refuses is told from one that is not there: in words, with what to change, and without a password."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from scoreline_client import AsyncClient, Client, ScorelineError, ServerRefused
from scoreline_client.cli.main import main
from scoreline_tasks.dev.server import embedded_server

WORD = "s3cret-word"


@pytest.fixture(scope="module")
def address() -> object:
    """A server with a password and a user with no rights."""
    with embedded_server(password=WORD) as url:
        yield urlsplit(url).netloc.rpartition("@")[2]


Change = Callable[[str], str]
REFUSALS: list[tuple[str, Change, str]] = [
    (
        "wrong password",
        lambda address: f"redis://:wrong-{WORD}@{address}/0",
        "refuses the password of user 'default'; both stand in SCORELINE_REDIS_URL: redis://USER:PASSWORD@",
    ),
    (
        "unknown user",
        lambda address: f"redis://somebody:{WORD}@{address}/0",
        "refuses the password of user 'somebody'",
    ),
    (
        "no password",
        lambda address: f"redis://{address}/0",
        "wants a password, and SCORELINE_REDIS_URL has none",
    ),
    (
        "no such database",
        lambda address: f"redis://:{WORD}@{address}/99",
        "has no database 99; SCORELINE_REDIS_URL names it behind the port",
    ),
]
each_refusal = pytest.mark.parametrize(
    ("url", "words"),
    [refusal[1:] for refusal in REFUSALS],
    ids=[refusal[0] for refusal in REFUSALS],
)


@each_refusal
def test_a_client_says_what_the_server_refuses(address: str, url: Change, words: str) -> None:
    calls: list[Callable[[Client], object]] = [
        lambda client: client.predict("m", {"x": 1}, timeout=30),
        lambda client: client.submit("m", [{"x": 1}], timeout=30),
        lambda client: client.status(timeout=30),
    ]
    for call in calls:
        began = time.monotonic()
        with Client(url(address)) as client, pytest.raises(ServerRefused) as refused:
            call(client)
        assert words in str(refused.value)
        assert str(refused.value).startswith(f"Redis at redis://{address}")
        assert WORD not in str(refused.value)
        assert "cannot reach" not in str(refused.value)
        assert time.monotonic() - began < 20  # it is not tried until the caller's time is up


@each_refusal
async def test_an_async_client_says_the_same(address: str, url: Change, words: str) -> None:
    async with AsyncClient(url(address)) as client:
        with pytest.raises(ServerRefused, match=words[:40]):
            await client.predict("m", {"x": 1}, timeout=30)


@each_refusal
@pytest.mark.parametrize("command", ["status", "health"])
def test_commands_say_the_same(
    address: str, url: Change, words: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCORELINE_REDIS_URL", url(address))
    shown = CliRunner().invoke(main, [command])
    assert shown.exit_code == ScorelineError.exit_status + 1
    assert words in shown.stderr
    assert WORD not in shown.stderr


@each_refusal
def test_a_worker_does_not_start_and_says_the_same(
    address: str, url: Change, words: str, tmp_path: Path
) -> None:
    own = {"SCORELINE_REDIS_URL": url(address), "SCORELINE_ARTIFACTS": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "scoreline_tasks", "worker", "-c", "1"],
        env={**os.environ, **own},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert f"This worker does not start: Redis at redis://{address}" in done.stderr
    assert words in done.stderr
    assert WORD not in done.stderr + done.stdout
