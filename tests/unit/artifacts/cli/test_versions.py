"""`scoreline models`, `versions`, `history`, `inspect` and `diff`: the store, without unpickling."""

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
from scoreline_artifacts.cli.cells import in_pair
from scoreline_artifacts.cli.diff import diff, sentences
from scoreline_artifacts.cli.history import history, models
from scoreline_artifacts.cli.inspect import inspect, plan_in_words
from scoreline_artifacts.cli.versions import versions
from scoreline_artifacts.loading.planned import PlanProof, versions_here
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


def test_scoreline_itself_is_not_pinned_for_a_worker_which_has_it(store: Store) -> None:
    like = store.manifest("pima", 1)
    needed = like.libraries | {"scoreline": "0.1.0"}
    store.publish(replace(like, libraries=needed), FILES)
    assert CliRunner().invoke(inspect, ["pima@3", "--requirements"]).output.splitlines() == [
        "# pima@3, trained with Python 3.11.7",
        "# scoreline 0.1.0 was there in training: as your workers have it",
        "scikit-learn==1.6.1",
    ]


def test_models_are_listed_with_what_is_released(store: Store) -> None:
    assert json.loads(_run(models, "--json").output) == [
        {
            "model": "pima",
            "versions": [1, 2],
            "newest": 2,
            "released": {"candidate": 2, "production": 1},
        }
    ]
    shown = _run(models).output
    assert f"artifact store: {store.root}" in shown
    assert "candidate 2, production 1" in shown


def test_history_says_what_was_released_and_with_which_key(store: Store) -> None:
    releases.promote(store, "pima", 2)
    releases.rollback(store, "pima")
    rows = json.loads(_run(history, "pima", "--alias", "production", "--json").output)
    assert [(row["version"], row["kind"], row["returns_to"]) for row in rows] == [
        (1, "rollback", 1),
        (2, "promote", None),
        (1, "promote", None),
    ]
    assert {row["key"] for row in rows} == {store.ring.own_fingerprint()}
    shown = _run(history, "pima").output
    assert "back to version 1, as in release 1" in shown
    assert "candidate" in shown
    assert _run(history, "pima", "--alias", "nobody").exit_code == 2


def test_versions_and_history_say_why_they_trust_nothing_once(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCORELINE_KEYS", str(tmp_path / "nobody"))
    monkeypatch.setenv("COLUMNS", "80")
    releases.promote(store, "pima", 2)
    label = f"not trusted (key {str(store.ring.own_fingerprint())[:8]})"
    for command in (versions, history):
        said = _run(command, "pima").stdout
        assert said.count(f"{label} ") == 2 + (command is history), said
        assert said.count("scoreline keys trust FILE") == 1
        assert len(said.splitlines()) < 12


def test_history_lists_an_entry_that_is_not_trusted_with_the_reason(store: Store) -> None:
    path = store.storage.root / "pima" / "releases" / "production" / "00000001.json"
    path.write_bytes(path.read_bytes().replace(b'"version": 1', b'"version": 2'))
    (row,) = json.loads(_run(history, "pima", "--alias", "production", "--json").output)
    assert (row["version"], row["key"]) == (None, None)
    assert "signature" in row["refused"]


def test_diff_counts_other_values_among_other_answers() -> None:
    def row(one: str, other: str) -> dict[str, Any]:
        return {"record": {}, "a": [one, [0.25, 0.75]], "b": [other, [0.5, 0.5]]}

    found = {"asked": 9, "not_taken": 0, "rows": [row("yes", "yes"), row("yes", "no")]}
    assert list(sentences(found)) == [
        "answers: 2 of 9 golden rows are answered differently, 1 with another class"
    ]
    numbers = {"record": {}, "a": [1.5, None], "b": [2.5, None]}
    assert list(sentences({"asked": 9, "not_taken": 1, "rows": [numbers]})) == [
        "answers: 1 of 9 golden rows is answered differently",
        "1 golden row is a record for one of them only",
    ]


@pytest.mark.parametrize(
    ("one", "other", "cells"),
    [
        (0.12345678901234567, 0.2, ("0.123457", "0.2")),
        ({"city": "Köln", "x": 1 / 3}, None, ('{"city": "Köln", "x": 0.333333}', "–")),
        (["a", [1 / 3]], ["a", [1 / 3 + 1e-12]], ('["a", [0.3333333333333333]]', '["a", [0.3333333333343333]]')),
    ],
)  # fmt: skip
def test_values_that_differ_are_short_in_a_cell_and_still_differ(
    one: Any, other: Any, cells: tuple[str, str]
) -> None:
    assert in_pair(one, other) == cells


@pytest.mark.parametrize(
    ("error", "rows", "words"),
    [
        (0.0, 4096, "for 6,639 rows are the pipeline's to the last digit; used for up to 4,096 rows at a time"),
        (1e-12, 10**9, "for 6,639 rows are the pipeline's within 1e-12 of each"),
    ],
)  # fmt: skip
def test_a_plan_is_told_in_words(error: float, rows: int, words: str) -> None:
    versions = versions_here()
    proof = PlanProof(nodes=3, rows=6639, max_error=error, up_to_rows=rows, versions=versions)
    assert words in plan_in_words(proof.encode())


def test_diff_says_where_neither_version_has_metrics(store: Store) -> None:
    for _ in range(2):
        store.publish(replace(store.manifest("pima", 1), metrics={}), FILES)
    shown = _run(diff, "pima", "3", "4", "--no-answers").output
    assert "metrics: neither version has any" in shown


def test_diff_compares_what_two_versions_record(store: Store) -> None:
    like = store.manifest("pima", 1)
    wider = Column(name="weight", type=ColumnType.NUMBER, dtype="float64")
    other = replace(
        like,
        schema=Schema((replace(like.schema.columns[0], maximum=99), wider)),
        metrics={"accuracy": 0.8},
        libraries={"python": "3.12.1", "scikit-learn": "1.6.1"},
    )
    store.publish(other, FILES)
    done = _run(diff, "pima", "production", "3", "--no-answers", "--json")
    said = json.loads(done.output)
    assert (said["a"], said["b"]) == ("pima@1", "pima@3")
    differences = said["differences"]
    assert differences["columns"]["age: maximum"] == [81.0, 99.0]
    assert differences["columns"]["weight: type"] == [None, "number"]
    assert differences["metrics"] == {"accuracy": [0.75, 0.8]}
    assert differences["environment"] == {"python": ["3.11.7", "3.12.1"]}
    assert differences["sources"] == {}
    shown = _run(diff, "pima", "1", "3", "--no-answers").output
    assert "sources: no difference" in shown
    # Bytes that are no pickle cannot answer, which is said and no failure of the rest.
    whole = _run(diff, "pima", "1", "2")
    assert whole.exit_code == 0
    assert "answers are not compared: pima@1 cannot answer here" in whole.output


def _with_parameters(store: Store, **parameters: str) -> int:
    like = store.manifest("pima", 1)
    recorded = {"rows": 9, "step_parameters": parameters} if parameters else {"rows": 9}
    return store.publish(replace(like, training=recorded), FILES).version


def test_diff_shows_which_parameters_of_steps_differ(store: Store) -> None:
    _with_parameters(store, model__C="1.0", model__penalty="'l2'")
    _with_parameters(store, model__C="5", model__penalty="'l2'")
    done = _run(diff, "pima", "3", "4", "--no-answers", "--json")
    differences = json.loads(done.output)["differences"]
    assert differences["parameters"] == {"model__C": ["1.0", "5"]}
    assert differences["training"] == {}
    shown = _run(diff, "pima", "3", "4", "--no-answers").output
    assert "model__C" in shown
    assert "training: no difference" in shown
    assert "2, which --json lists" in _run(inspect, "pima@3").output


def test_diff_says_where_no_parameters_are_recorded(store: Store) -> None:
    _with_parameters(store)
    _with_parameters(store, model__C="5")
    shown = _run(diff, "pima", "3", "4", "--no-answers").output
    assert "parameters: not compared, since none of the steps' are recorded in pima@3" in shown
    assert "parameters: no difference" not in shown
