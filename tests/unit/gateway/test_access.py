"""Who is answered: tokens, rights, models; and this machine, where there are no tokens."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from scoreline_client.errors import SettingsError
from scoreline_client.testing import FakeScoreline
from scoreline_gateway import access
from scoreline_gateway.access import read_tokens
from scoreline_gateway.app import Gateway
from tests.support.asgi import Reply, call, gateway
from tests.unit.gateway.v2.test_inference import INFER, columns


def line(token: str, models: str = "*", rights: str = "*") -> str:
    return f"{hashlib.sha256(token.encode()).hexdigest()}  {token}  {models}  {rights}\n"


def rewrite(file: Path, text: str | None) -> None:
    """Put other lines into a file of tokens, of another time of change; None removes it."""
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
        os.utime(file, ns=(1, 1))


async def ask(app: Gateway, token: str | None, path: str = INFER, **more: Any) -> Reply:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return await call(app, "POST", path, {"inputs": columns()}, headers=headers, **more)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of tokens, of which one may ask all, one another model, and one nothing of models."""
    path = tmp_path / "tokens"
    path.write_text(
        "# who may\n\n"
        + line("all")
        + line("other", "visits")
        + line("counts", rights="metrics")
        + line("pima", "pima", "score")
    )
    return path


async def test_a_token_is_good_for_its_models_and_rights(
    scoreline: FakeScoreline, file: Path
) -> None:
    async with gateway(scoreline, gateway_tokens=str(file)) as app:
        statuses = {name: (await ask(app, name)).status for name in ("all", "other", "counts", "pima")}  # fmt: skip
        of_version = await ask(app, "pima", "/v2/models/pima@3/infer")
    assert statuses == {"all": 200, "other": 403, "counts": 403, "pima": 200}
    assert of_version.status == 200


@pytest.mark.parametrize("token", [None, "", "nobody", "all ", "\x00"])
async def test_without_a_known_token_nothing_is_told(
    scoreline: FakeScoreline, file: Path, token: str | None
) -> None:
    async with gateway(scoreline, gateway_tokens=str(file)) as app:
        reply = await ask(app, token)
        unknown = await ask(app, token, "/v2/models/nobody/infer")
    expected = 200 if token == "all " else 401
    assert reply.status == expected
    if expected == 401:
        assert reply.headers["www-authenticate"] == "Bearer"
        assert unknown.status == 401


async def test_another_scheme_is_no_token(scoreline: FakeScoreline, file: Path) -> None:
    async with gateway(scoreline, gateway_tokens=str(file)) as app:
        reply = await call(app, "POST", INFER, b"{}", headers={"Authorization": "Basic YWxs"})
    assert reply.status == 401


async def test_health_needs_no_token(scoreline: FakeScoreline, file: Path) -> None:
    async with gateway(scoreline, gateway_tokens=str(file)) as app:
        assert (await call(app, "GET", "/v2/health/live")).status == 200
        assert (await call(app, "GET", "/version")).status == 200
        assert (await call(app, "GET", "/v2/models/pima")).status == 401


async def test_the_default_model_needs_its_right_too(scoreline: FakeScoreline, file: Path) -> None:
    async with gateway(scoreline, gateway_tokens=str(file), gateway_model="pima") as app:
        reply = await ask(app, "other", "/invocations")
    assert (reply.status, reply.json["error_code"]) == (403, "FORBIDDEN")


async def test_a_changed_file_is_read_again(
    scoreline: FakeScoreline, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "CHECK_S", 0)
    async with gateway(scoreline, gateway_tokens=str(file)) as app:
        assert (await ask(app, "new")).status == 401
        rewrite(file, line("new"))
        assert (await ask(app, "new")).status == 200
        assert (await ask(app, "all")).status == 401


@pytest.mark.parametrize("damage", ["unreadable line\n", None])
async def test_a_file_that_cannot_be_read_any_more_leaves_the_tokens_as_they_were(
    scoreline: FakeScoreline, file: Path, monkeypatch: pytest.MonkeyPatch, damage: str | None
) -> None:
    monkeypatch.setattr(access, "CHECK_S", 0)
    async with gateway(scoreline, gateway_tokens=str(file)) as app:
        rewrite(file, damage)
        assert (await ask(app, "all")).status == 200


@pytest.mark.parametrize(
    "text",
    ["abc  name  *  *", f"{'0' * 64}  name  *", f"{'0' * 64} a * rule", f"{'0' * 64} a Not! score"],
)
def test_a_line_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"# tokens\n{text}\n")
    with pytest.raises(SettingsError, match="line 2"):
        read_tokens(path)


@pytest.mark.parametrize(
    ("server", "host", "headers", "status"),
    [
        ("127.0.0.1", "localhost:8080", {}, 200),
        ("127.0.0.1", "127.0.0.1", {}, 200),
        ("::1", "[::1]:8080", {}, 200),
        ("/run/gateway.sock", "localhost", {}, 200),
        ("10.0.0.5", "127.0.0.1", {}, 403),
        ("127.0.0.1", "rebound.example:8080", {}, 403),
        ("127.0.0.1", "127.0.0.1.example", {}, 403),
        ("127.0.0.1", "localhost:8080", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("127.0.0.1", "localhost:8080", {"Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
async def test_without_tokens_only_programs_of_this_machine_are_answered(
    app: Gateway, server: str, host: str, headers: dict[str, str], status: int
) -> None:
    given = {"inputs": columns()}
    reply = await call(app, "POST", INFER, given, server=server, host=host, headers=headers)
    assert reply.status == status


async def test_an_operator_may_answer_everybody(scoreline: FakeScoreline) -> None:
    async with gateway(scoreline, gateway_allow_no_tokens=1) as app:
        assert (await ask(app, None, server="10.0.0.5", host="scoreline.example")).status == 200
