"""Exit codes of `scoreline up` and `demo`: what was asked wrongly is told from what went wrong later."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from scoreline_client.errors import MissingDependency, ServerUnreachable
from scoreline_tasks import cli
from scoreline_tasks.dev import server as embedded
from scoreline_tasks.dev.demo import StepFailed
from scoreline_tasks.dev.local_worker import WorkerEnded, WorkerSilent
from scoreline_tasks.dev.server import HOST


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which another program listens."""
    with socket.create_server((HOST, 0)) as server:
        yield server.getsockname()[1]


def test_up_with_a_bad_setting_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORELINE_RESULT_TTL_S", "soon")
    done = CliRunner().invoke(cli.up)
    assert done.exit_code == 2
    assert "SCORELINE_RESULT_TTL_S" in done.stderr


def test_up_on_another_machine_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORELINE_REDIS_URL", "redis://elsewhere:6379/0")
    assert CliRunner().invoke(cli.up).exit_code == 2


def test_up_on_a_port_that_is_taken_is_wrong_usage(taken: int) -> None:
    done = CliRunner().invoke(cli.up, ["--port", str(taken)])
    assert done.exit_code == 2
    assert str(taken) in done.stderr


def test_up_that_cannot_write_its_data_is_wrong_usage() -> None:
    done = CliRunner().invoke(cli.up, ["--port", "1", "--data", "/dev/null/below"])
    assert isinstance(done.exception, SystemExit)
    assert done.exit_code == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (WorkerEnded(-9), 1),
        (WorkerSilent(60), 1),
        (StepFailed("scoreline train", 1), 1),
        (MissingDependency("A worker", "celery", "worker"), 2),
        (ServerUnreachable("redis://x", "away"), 3),
    ],
    ids=lambda one: type(one).__name__,
)
@pytest.mark.parametrize("command", [cli.up, cli.demo], ids=["up", "demo"])
def test_an_error_has_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, command: Any, error: Exception, code: int
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(cli, "serve_here", fail)
    monkeypatch.setattr(cli.story, "tell", fail)
    assert CliRunner().invoke(command).exit_code == code


def test_the_embedded_server_with_a_bad_setting_is_wrong_usage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SCORELINE_RESULT_TTL_S", "soon")
    assert embedded.main() == 2
