"""`scoreline export`: a file with its proof and signature, or every step that cannot be exported."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Binarizer, FunctionTransformer

from scoreline_artifacts import Store
from scoreline_artifacts.plan import ScoringPlan
from scoreline_client.testing import FakeScoreline
from scoreline_training import publish
from scoreline_training.cli import export
from scoreline_training.export import (
    ExportFailed,
    NotExportable,
    NotProven,
    export_version,
    verify_export,
)
from scoreline_training.export import export as export_module
from scoreline_training.jobs.pima.training import FEATURES
from tests.support.publishing import clean_room_in_this_process, no_report
from tests.unit.training.export import projects

pytestmark = pytest.mark.filterwarnings("ignore")
MODULE = '''"""Features."""


def is_adult(age):
    """Whether somebody is of age."""
    return (age >= 18).astype(float)
'''


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of four versions, and keys.

    `pima` is the first pipeline; `adults` the second, whose function is in a module of its project; `threshold` has a
    Binarizer in its place; `reviews` has words.
    """
    folder = tmp_path_factory.mktemp("published")
    (folder / "features_of_people.py").write_text(MODULE)
    rows = projects.split()
    with pytest.MonkeyPatch.context() as patch, clean_room_in_this_process(), no_report():
        patch.setenv("SCORELINE_REDIS_URL", "redis://127.0.0.1:1/0")
        patch.setenv("SCORELINE_ARTIFACTS", str(folder / "store"))
        patch.setenv("SCORELINE_KEYS", str(folder / "keys"))
        patch.syspath_prepend(str(folder))
        is_adult = importlib.import_module("features_of_people").is_adult
        for name, pipeline in (
            ("pima", projects.with_logarithm()),
            ("adults", projects.with_transformer(FunctionTransformer(is_adult))),
            ("threshold", projects.with_transformer(Binarizer(threshold=17))),
        ):
            publish(pipeline, name, rows.X_train, rows.y_train, promote=True)
        words = ColumnTransformer([("text", TfidfVectorizer(), "text")])
        frame = pd.DataFrame({"text": ["very good", "not good", "very bad", "bad, bad"]})
        labels = [1, 0, 0, 0]
        fitted = make_pipeline(words, LogisticRegression()).fit(frame, labels)
        publish(fitted, "reviews", frame, labels, promote=True)
        del sys.modules["features_of_people"]
    return folder


@pytest.fixture
def store(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A copy of it, in the current folder."""
    for name in ("store", "keys"):
        shutil.copytree(published / name, tmp_path / name)
    monkeypatch.setenv("SCORELINE_ARTIFACTS", str(tmp_path / "store"))
    monkeypatch.setenv("SCORELINE_KEYS", str(tmp_path / "keys"))
    monkeypatch.setattr(export_module, "ROWS", 200)
    monkeypatch.chdir(tmp_path)
    return Store(tmp_path / "store")


def _run(*arguments: Any) -> Result:
    return CliRunner().invoke(export, [str(each) for each in arguments], catch_exceptions=False)


def test_a_version_becomes_a_file_a_proof_and_a_signature(store: Store, tmp_path: Path) -> None:
    result = _run("pima", "--to", "json")
    assert result.exit_code == 0, result.output
    names = {path.name for path in tmp_path.glob("pima-1*")}
    assert names == {"pima-1.json", "pima-1.json.proof.json", "pima-1.json.sig"}
    said = json.loads((tmp_path / "pima-1.json.proof.json").read_text())
    assert (said["model"], said["version"], said["format"]) == ("pima", 1, "json")
    assert said["manifest_sha256"] == store.verified("pima", 1).sha256
    measured = said["measured"]
    assert measured["golden_rows"] == 32
    assert measured["rows"] > 200
    assert measured["largest_error"] <= said["tolerance"] == 1e-9
    assert measured["label_flips"] == 0
    assert {"python", "scikit-learn", "numpy", "orjson"} <= said["libraries"].keys()


@pytest.mark.parametrize("format_name", ["onnx", "pmml"])
def test_programs_of_other_formats_prove_their_files(
    store: Store, tmp_path: Path, format_name: str
) -> None:
    for model in ("pima", "threshold"):
        result = _run(model, "--to", format_name)
        assert result.exit_code == 0, result.output
        said = json.loads((tmp_path / f"{model}-1.{format_name}.proof.json").read_text())
        assert said["measured"]["largest_error"] < 1e-14
        assert said["measured"]["label_flips"] == 0
    again = _run("--verify", tmp_path / f"pima-1.{format_name}")
    assert again.exit_code == 0, again.output
    refused = _run("adults", "--to", format_name)
    assert refused.exit_code == 1
    assert "features_of_people.is_adult), features_of_people.py:4" in refused.output
    assert not (tmp_path / f"adults-1.{format_name}").exists()


def test_a_file_is_proved_again(store: Store, tmp_path: Path) -> None:
    made = json.loads(
        _run("pima@1", "--to", "json", "-o", tmp_path / "out/p.json", "--json").output
    )
    again = json.loads(_run("--verify", tmp_path / "out/p.json", "--json").output)
    assert again["proof"]["sha256"] == made["proof"]["sha256"]
    assert again["proof"]["measured"] == made["proof"]["measured"]


@pytest.mark.parametrize("which", ["", ".proof.json", ".sig"])
def test_what_was_changed_is_not_believed(store: Store, tmp_path: Path, which: str) -> None:
    exported = export_version(store, "pima", 1, "json", rows=50)
    path = Path(f"{exported.path}{which}")
    path.write_bytes(path.read_bytes().replace(b"1", b"2"))
    result = _run("--verify", exported.path)
    assert result.exit_code == 2
    assert "was changed" in result.output


def test_a_signature_of_something_else_is_none(store: Store) -> None:
    exported = export_version(store, "pima", 1, "json", rows=50)
    data = exported.proof.encode()
    Path(f"{exported.path}.sig").write_bytes(store.ring.sign("artifact", data))
    assert _run("--verify", exported.path).exit_code == 2


def test_a_key_that_was_revoked_proves_nothing(store: Store) -> None:
    exported = export_version(store, "pima", 1, "json", rows=50)
    store.ring.generate(rotate=True)
    old = [key.fingerprint for key in store.ring.known() if not key.signs]
    store.ring.revoke(old[0])
    assert "revoked" in _run("--verify", exported.path).output


def test_a_missing_file_is_named(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ExportFailed, match=r"pima-9\.json: it cannot be read"):
        verify_export(store, tmp_path / "pima-9.json")


def test_a_file_that_cannot_be_written_leaves_nothing(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ExportFailed, match="cannot be written"):
        export_version(store, "pima", 1, "json", tmp_path / "file" / "pima.json", rows=50)


@pytest.mark.parametrize("name", ["pipe", "link", ""])
def test_what_is_no_file_is_not_replaced_by_one(store: Store, tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    result = _run("pima", "--to", "json", "-o", name)
    assert result.exit_code == 2
    assert "it is no file" in result.output
    assert (tmp_path / "pipe").is_fifo()
    assert (tmp_path / "link").is_symlink()
    assert not list(tmp_path.glob("*.proof.json"))


def test_a_function_of_ones_own_is_refused_by_name_file_and_step(
    store: Store, tmp_path: Path
) -> None:
    result = _run("adults", "--to", "json")
    assert result.exit_code == 1
    assert "dataframemapper → ['age'] → FunctionTransformer(" in result.output
    assert "features_of_people.is_adult), features_of_people.py:4" in result.output
    assert "Binarizer(threshold=17) in its place gives the same" in result.output
    assert not list(tmp_path.glob("adults-1*"))
    listed = json.loads(_run("adults", "--to", "json", "--json").output)
    assert [step["way_out"][:23] for step in listed["steps"]] == ["Binarizer(threshold=17)"]


def test_a_step_that_is_several_of_the_plan_is_refused_once(store: Store) -> None:
    with pytest.raises(NotExportable) as refusal:
        export_version(store, "reviews", 1, "json")
    (step,) = refusal.value.steps
    assert step.way == "columntransformer → text → ['text'] → TfidfVectorizer"
    told = _run("reviews", "--steps").output.splitlines()
    assert len([line for line in told if line.startswith("no json")]) == 1


def test_the_black_box_serves_what_cannot_be_exported(store: Store, tmp_path: Path) -> None:
    with pytest.raises(NotExportable):
        export_version(store, "adults", 1, "json")
    rows = projects.split().X_test
    with FakeScoreline(store=tmp_path / "store") as scoreline:
        answer = scoreline.client().predict("adults", rows.head(1).to_dict("records")[0])
    assert answer.value in (0, 1)


def test_the_way_out_is_one(store: Store) -> None:
    exported = export_version(store, "threshold", 1, "json", rows=100)
    assert b'{"op":"binarize","in":3,"threshold":17.0}' in exported.path.read_bytes()


def test_steps_say_what_goes_where(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    said = json.loads(_run("adults", "--steps", "--json").output)
    by_kind = {step["kind"]: step for step in said}
    assert by_kind["Ufunc"]["refused"]["json"] is None
    assert "is called" in by_kind["Opaque"]["refused"]["json"]
    shown = _run("adults", "--steps").output
    assert "FunctionTransformer(numpy.log1p)" in shown
    assert "features_of_people.py:4: it is called" in shown


def test_a_step_is_one_line_and_no_if_a_part_of_it_is(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    said = json.loads(_run("adults", "--steps", "--json").output)
    ways = list(dict.fromkeys(step["way"] for step in said))
    assert len(ways) < len(said)
    table = [line for line in _run("adults", "--steps").output.splitlines() if line[:1] == "│"]
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in table]
    assert [line[:2] for line in cells] == [[str(at), way] for at, way in enumerate(ways, 1)]
    (called,) = (step["way"] for step in said if step["kind"] == "Opaque")
    assert [line[2:] for line in cells if line[1] == called] == [["no"] * 3]


def test_a_program_that_answers_otherwise_leaves_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scoreline_training.export import json_format

    monkeypatch.setitem(json_format._PROGRAMS, "concat", lambda _step, one, other: 0 * other)
    with pytest.raises(NotProven, match="the file has no answer"):
        export_version(store, "pima", 1, "json", rows=50)
    assert not list(tmp_path.glob("pima-1*"))


def test_a_file_that_its_program_cannot_open_is_not_proved(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scoreline_training.export import json_format

    exported = export_version(store, "pima", 1, "json", rows=50)
    monkeypatch.setattr(json_format, "VERSION", "scoreline-plan/0")
    result = _run("--verify", exported.path)
    assert result.exit_code == 1
    assert "the file cannot be opened here: it has the format 'scoreline-plan/1'" in result.output


@pytest.mark.parametrize("which", [("",), ("", ".proof.json"), ("", ".proof.json", ".sig")])
def test_the_file_of_another_version_is_never_taken_for_this_one(
    store: Store, which: tuple[str, ...]
) -> None:
    this = export_version(store, "pima", 1, "json", rows=50).path
    other = export_version(store, "threshold", 1, "json", rows=50).path
    for suffix in which:
        shutil.copyfile(f"{other}{suffix}", f"{this}{suffix}")
    result = _run("--verify", this)
    if ".sig" in which:
        assert "of threshold@1" in result.output
    else:
        assert result.exit_code == 2


def test_a_file_is_held_against_the_pipeline_and_not_its_plan(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(_plan: ScoringPlan, frame: Any) -> Any:
        return np.zeros((len(frame), 2))

    monkeypatch.setattr(ScoringPlan, "predict_proba", wrong)
    assert export_version(store, "pima", 1, "json", rows=50).proof.measured.rows > 50


@pytest.mark.parametrize(
    "arguments",
    [(), ("pima",), ("--to", "json"), ("pima", "--steps", "--to", "json"), ("pima", "--verify", "x")],
)  # fmt: skip
def test_other_combinations_are_explained(store: Store, arguments: tuple[str, ...]) -> None:
    assert _run(*arguments).exit_code == 2


def test_the_columns_of_the_data_are_all_named(store: Store) -> None:
    exported = export_version(store, "pima", 1, "json", rows=50)
    assert [*json.loads(exported.path.read_bytes())["columns"]] == FEATURES
