"""`scoreline gateway` and `scoreline token`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import uvicorn
from click.testing import CliRunner

from scoreline_gateway.access import Right, read_tokens
from scoreline_gateway.cli import gateway, token


@pytest.fixture
def started() -> Any:
    """What uvicorn is started with, instead of starting it."""
    with mock.patch.object(uvicorn, "run") as run:
        yield run


def test_it_listens_on_this_machine_only(started: Any) -> None:
    assert CliRunner().invoke(gateway, []).exit_code == 0
    assert (started.call_args.kwargs["host"], started.call_args.kwargs["port"]) == (
        "127.0.0.1",
        8080,
    )


def test_another_address_without_tokens_is_refused(started: Any) -> None:
    done = CliRunner().invoke(gateway, ["--host", "0.0.0.0"])
    assert done.exit_code == 2
    assert "scoreline token" in done.output
    assert not started.called


def test_another_address_with_tokens_is_served(
    started: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tokens").write_text("")
    monkeypatch.setenv("SCORELINE_GATEWAY_TOKENS", str(tmp_path / "tokens"))
    assert CliRunner().invoke(gateway, ["--host", "0.0.0.0", "--port", "9000"]).exit_code == 0
    assert started.call_args.kwargs["host"] == "0.0.0.0"


def test_a_file_of_tokens_that_is_not_there_is_refused(
    started: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCORELINE_GATEWAY_TOKENS", "/nowhere/tokens")
    done = CliRunner().invoke(gateway, [])
    assert done.exit_code == 2
    assert "SCORELINE_GATEWAY_TOKENS" in done.output


def test_a_key_without_a_certificate_is_a_usage_error(started: Any) -> None:
    done = CliRunner().invoke(gateway, ["--tls-key", __file__])
    assert done.exit_code == 2
    assert not started.called


def test_a_token_and_its_line_belong_together(tmp_path: Path) -> None:
    done = CliRunner().invoke(token, ["shop", "--models", "pima,churn", "--rights", "score,jobs"])
    assert done.exit_code == 0
    secret = done.stderr.split()[-1]
    (tmp_path / "tokens").write_text(done.stdout)
    ((digest, principal),) = read_tokens(tmp_path / "tokens")
    assert digest == hashlib.sha256(secret.encode()).digest()
    assert (principal.name, principal.models) == ("shop", {"pima", "churn"})
    assert principal.rights == {Right.SCORE, Right.JOBS}


@pytest.mark.parametrize(
    "arguments",
    [["two words"], ["shop", "--rights", "everything"], ["shop", "--models", "Not A Name"]],
)
def test_what_the_file_could_not_hold_is_refused(arguments: list[str]) -> None:
    assert CliRunner().invoke(token, arguments).exit_code == 2
