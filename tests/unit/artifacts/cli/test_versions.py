"""`scoreline versions` and `scoreline inspect`: the store, without unpickling."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from scoreline_artifacts import Column, ColumnType, Manifest, Outputs, Schema, Store
from scoreline_artifacts.cli.inspect import inspect
from scoreline_artifacts.cli.versions import versions
from scoreline_artifacts.store import releases
from tests.support.stores import manifest_of

FILES = {"pipeline.dill": b"this is no pickle", "golden.jsonl": b""}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Versions 1 and 2 of model pima; 1 is in production, 2 a candidate. Neither can be unpickled."""
    monkeypatch.setenv("SCORELINE_ARTIFACTS", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    store = Store(tmp_path)
    column = Column(name="age", type=ColumnType.INTEGER, dtype="int64", minimum=21, maximum=81)
    for _ in range(2):
        store.publish(
            replace(
                manifest_of(FILES, 1),
                schema=Schema((column,)),
                outputs=Outputs(method="predict", classes=[0, 1]),
                metrics={"accuracy": 0.75},
                libraries={"python": "3.11.7", "scikit-learn": "1.6.1"},
            ),
            FILES,
        )
    releases.promote(store, "pima", 1)
    releases.promote(store, "pima", 2, "candidate")
    return store


def _run(command: Any, *arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def test_versions_shows_what_points_at_each(store: Store) -> None:
    result = _run(versions, "pima")
    assert result.exit_code == 0
    assert "production" in result.output
    assert "accuracy 0.75" in result.output


def test_versions_as_json_can_be_read_by_a_script(store: Store) -> None:
    rows = json.loads(_run(versions, "pima", "--json").output)
    assert [(row["version"], row["aliases"]) for row in rows] == [
        (1, ["production"]),
        (2, ["candidate"]),
    ]


@pytest.mark.parametrize(
    ("reference", "version"), [("pima", 1), ("pima@2", 2), ("pima@candidate", 2)]
)
def test_inspect_takes_a_model_an_alias_or_a_version(
    store: Store, reference: str, version: int
) -> None:
    assert json.loads(_run(inspect, reference, "--json").output)["version"] == version


def test_inspect_as_json_is_the_manifest(store: Store) -> None:
    output = _run(inspect, "pima@2", "--json").output
    assert Manifest.decode(output.encode()) == store.manifest("pima", 2)


@pytest.mark.parametrize("fact", ["age", "integer", "21 … 81", "scikit-learn", "1.6.1", "sha256"])
def test_inspect_shows(store: Store, fact: str) -> None:
    result = _run(inspect, "pima")
    assert result.exit_code == 0
    assert fact in result.output


def test_a_check_says_that_what_is_no_pipeline_cannot_be_served(store: Store) -> None:
    result = _run(inspect, "pima@2", "--check")
    assert result.exit_code == 1
    assert "UnpicklingError" in result.output
    assert "cannot serve it" in result.output


@pytest.mark.parametrize("command", [versions, inspect], ids=["versions", "inspect"])
@pytest.mark.parametrize(
    ("reference", "message"),
    [("other", "no model 'other'"), ("../pima", "not a usable name")],
)
def test_a_wrong_model_is_wrong_usage(
    store: Store, command: Any, reference: str, message: str
) -> None:
    result = _run(command, reference)
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("pima@9", "no version 9"),
        ("pima@", "not a usable name"),
        ("pima@nobody", "aliases there: candidate, production"),
    ],
)
def test_a_wrong_version_or_alias_is_wrong_usage(
    store: Store, reference: str, message: str
) -> None:
    result = _run(inspect, reference)
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize("command", [versions, inspect], ids=["versions", "inspect"])
def test_help_shows_examples(command: Any) -> None:
    assert "Examples:" in _run(command, "--help").output


def test_nothing_heavy_is_imported_to_look_at_the_store() -> None:
    code = (
        "import sys, scoreline_artifacts.cli.versions, scoreline_artifacts.cli.inspect; "
        "print({'pandas', 'numpy', 'dill', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_inspect_prints_what_is_to_be_installed(store: Store) -> None:
    done = CliRunner().invoke(inspect, ["pima@2", "--requirements"])
    assert done.output.splitlines() == [
        "# pima@2, trained with Python 3.11.7",
        "scikit-learn==1.6.1",
    ]
    assert CliRunner().invoke(inspect, ["pima@2", "--requirements", "--json"]).exit_code == 2
