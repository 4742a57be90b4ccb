"""`scoreline keygen` and `scoreline keys`: a key's way from who publishes to who serves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from scoreline_artifacts import KeyRing
from scoreline_artifacts.cli.keys import keygen, keys
from scoreline_artifacts.store.signing import Purpose


def _run(command: Any, *arguments: str, folder: Path | None = None, **options: Any) -> Result:
    environment = {"SCORELINE_KEYS": str(folder)} if folder else {}
    return CliRunner().invoke(command, arguments, env={"COLUMNS": "200", **environment}, **options)


def test_a_public_key_travels_from_show_to_trust(tmp_path: Path) -> None:
    signature = KeyRing(tmp_path / "publisher").sign(Purpose.ARTIFACT, b"data")
    shown = _run(keys, "show", folder=tmp_path / "publisher")
    trusted = _run(keys, "trust", "-", folder=tmp_path / "worker", input=shown.output)
    assert (shown.exit_code, trusted.exit_code) == (0, 0)
    assert "PRIVATE" not in shown.output
    assert KeyRing(tmp_path / "worker").verify(Purpose.ARTIFACT, b"data", signature)


def test_keygen_makes_a_key_once_and_another_one_to_rotate() -> None:
    made = [
        json.loads(_run(keygen, *options, "--json").output) for options in ([], [], ["--rotate"])
    ]
    assert [one["made"] for one in made] == [True, False, True]
    assert made[0]["key"] == made[1]["key"] != made[2]["key"]


def test_the_list_says_which_keys_are_trusted_and_which_were_revoked() -> None:
    first = json.loads(_run(keygen, "--json").output)["key"]
    second = json.loads(_run(keygen, "--rotate", "--json").output)["key"]
    assert _run(keys, "revoke", first[:8]).output == f"revoked: {first}\n"
    rows = {row["key"]: row for row in json.loads(_run(keys, "list", "--json").output)}
    everything = {"models": [], "aliases": []}
    assert rows[first] == {"key": first, "revoked": True, "signs": False} | everything
    assert rows[second] == {"key": second, "revoked": False, "signs": True} | everything
    assert "revoked" in _run(keys).output


def test_an_empty_list_says_what_to_do() -> None:
    assert "scoreline keys trust FILE" in _run(keys).output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show"], "no key"),
        (["show", "12345678"], "does not name one key"),
        (["revoke", "12345678"], "does not name one key"),
        (["trust", "-"], "not a public key"),
    ],
)
def test_what_cannot_be_done_is_wrong_usage(arguments: list[str], message: str) -> None:
    result = _run(keys, *arguments, input="nothing")
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize(
    "arguments", [["--help"], *([name, "--help"] for name in ("list", "show", "trust", "revoke"))]
)
def test_help_shows_examples(arguments: list[str]) -> None:
    assert "Examples:" in _run(keys, *arguments).output


def test_a_key_is_trusted_for_some_names_and_the_list_says_which(tmp_path: Path) -> None:
    KeyRing(tmp_path / "publisher").generate()
    pem = _run(keys, "show", folder=tmp_path / "publisher").output
    names = ("--models", "fraud-*", "--models", "loans", "--aliases", "staging")
    assert _run(keys, "trust", "-", *names, input=pem).exit_code == 0
    (row,) = json.loads(_run(keys, "list", "--json").output)
    assert (row["models"], row["aliases"]) == (["fraud-*", "loans"], ["staging"])
    assert "models fraud-*, loans; aliases staging" in _run(keys, "list").output
