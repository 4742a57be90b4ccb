"""What a training report says of the version in production, of the data, and of the code."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from scoreline_artifacts import KeyRing, Schema, Store
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_artifacts.manifest import PIPELINE
from scoreline_artifacts.packaging import pickling
from scoreline_training import publish
from scoreline_training.report import Incumbent, ReportData, incumbent, lineage, sections
from scoreline_training.report.comparison import ask_apart, ask_here, compare, same_answers
from scoreline_training.report.metrics import Answers, NotMeasurable, Rows, ask

FRAME = pd.DataFrame({"x": np.linspace(-3, 3, 40), "n": np.arange(40)})
TRUTH = np.where(FRAME["x"] > 0, "high", "low")

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="there is no git here")


class Threshold:
    """Says high above a value of one column."""

    def __init__(self, at: float, column: str = "x") -> None:
        self.at, self.column = at, column
        self.classes_ = np.array(["high", "low"])

    def predict_proba(self, frame: pd.DataFrame) -> Any:
        high = np.where(frame[self.column] > self.at, 0.9, 0.1)
        return np.column_stack([high, 1 - high])

    def predict(self, frame: pd.DataFrame) -> Any:
        return np.where(frame[self.column] > self.at, "high", "low")


def _loaded(pipeline: Any, frame: pd.DataFrame = FRAME) -> LoadedVersion:
    return LoadedVersion.of(pipeline, "sides", schema=Schema.infer(frame))


def _compare(before: Any, schema_of: pd.DataFrame = FRAME) -> Answers:
    rows = Rows(frame=FRAME, truth=TRUTH, held_out=True, of=len(FRAME))
    loaded = _loaded(before, schema_of)
    production = Incumbent(reference="sides@7", ask=partial(ask_here, loaded, "sides@7"))
    return compare(production, ask(_loaded(Threshold(0)), FRAME, TRUTH), rows)


# The version in production


def test_a_version_that_takes_other_types_gets_them() -> None:
    found = _compare(Threshold(0, "n"), schema_of=FRAME.astype({"n": "float64"}))
    assert found.values.tolist()[:2] == ["low", "high"]


def test_a_version_that_needs_another_column_cannot_be_compared() -> None:
    with pytest.raises(NotMeasurable, match=r"sides@7 cannot score these rows: KeyError: .*other"):
        _compare(Threshold(0, "other"), schema_of=FRAME.assign(other=1.0))


def test_a_version_whose_types_the_rows_cannot_take_cannot_be_compared() -> None:
    rows = Rows(frame=FRAME.assign(x="no number"), truth=None, held_out=True, of=40)
    with pytest.raises(NotMeasurable, match=r"sides@7 cannot score these rows: ValueError: .*'x'"):
        ask_here(_loaded(Threshold(0)), "sides@7", rows)


def test_a_version_of_another_kind_cannot_be_compared() -> None:
    with pytest.raises(
        NotMeasurable, match="sides@7 is a regressor and this is a binary classifier"
    ):
        _compare(LinearRegression().fit(FRAME, FRAME["x"]))


def test_a_version_that_fails_on_these_rows_is_told() -> None:
    broken = Threshold(0)
    broken.column = "absent"
    with pytest.raises(NotMeasurable, match="sides@7 cannot score these rows: KeyError"):
        _compare(broken)


def test_rows_that_only_one_version_gets_right_are_counted() -> None:
    production = Incumbent(reference="sides@7", ask=partial(ask_here, _loaded(Threshold(1)), "s"))
    version = _loaded(Threshold(0))
    data = ReportData(
        version=version, created_at="", X_train=FRAME, y_train=TRUTH, production=production
    )
    wrong = int(((FRAME["x"] > 0) & (FRAME["x"] <= 1)).sum())
    _, beside = sections.production(sections.measured(data))
    facts = dict(beside[1].rows)
    assert facts["Right now, wrong in production"] == str(wrong)
    assert facts["Wrong now, right in production"] == "0"
    assert facts["Same answer"].startswith(f"{40 - wrong} of 40 rows")
    assert {"ROC AUC", "Accuracy"} <= {row[0] for row in beside[0].rows}


def test_answers_are_the_same_up_to_rounding() -> None:
    one, other = np.array([1.0, 2.0, np.nan]), np.array([1.0 + 1e-12, 2.1, np.nan])
    assert same_answers(one, other).tolist() == [True, False, True]
    assert same_answers(np.array(["a", "b"]), np.array(["a", "c"])).tolist() == [True, False]
    pair = np.array([[1, 2], [3, 4]]), np.array([[1, 2], [3, 5]])
    assert same_answers(*pair).tolist() == [True, False]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty store; no Redis answers."""
    monkeypatch.setenv("SCORELINE_REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("SCORELINE_ARTIFACTS", str(tmp_path))
    return Store(tmp_path)


def _pipeline() -> Any:
    return LogisticRegression(solver="liblinear").fit(FRAME, TRUTH)


def test_nothing_in_production_is_nothing_to_compare_with(store: Store) -> None:
    found = incumbent(store, "sides")
    assert (found.reference, found.ask) == (None, None)
    assert found.why_not == "Nothing has been released as sides@production yet."


def test_the_version_in_production_is_asked_in_the_clean_room(store: Store) -> None:
    publish(_pipeline(), "sides", FRAME, TRUTH, promote=True)
    publish(_pipeline(), "sides", FRAME, TRUTH)
    found = incumbent(store, "sides")
    assert found.reference == "sides@1"
    assert found.ask is not None
    here = ask(_loaded(_pipeline()), FRAME, TRUTH)
    there = found.ask(Rows(frame=FRAME, truth=TRUTH, held_out=True, of=len(FRAME)))
    assert (there.kind, there.classes) == (here.kind, here.classes)
    assert there.values.tolist() == here.values.tolist()
    assert np.array_equal(there.probabilities, here.probabilities)  # type: ignore[arg-type]


def test_what_another_key_has_signed_is_asked_only_if_that_is_wanted(
    store: Store, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(_pipeline(), "sides", FRAME, TRUTH, promote=True)
    own = KeyRing(tmp_path_factory.mktemp("own") / "keys")
    own.generate()
    own.trust(store.ring.export())
    monkeypatch.setenv("SCORELINE_KEYS", str(own.folder))
    other = Store(store.root)
    found = incumbent(other, "sides")
    assert (found.reference, found.ask) == ("sides@1", None)
    assert "publish(compare=True)" in found.why_not
    assert incumbent(other, "sides", compare=True).ask is not None
    assert incumbent(store, "sides", compare=False).ask is None
    second = publish(_pipeline(), "sides", FRAME, TRUTH, compare=True)
    assert "Same answer" in second.report.read_text()


class Ends:
    """Ends the process that loads it."""

    def __reduce__(self) -> Any:
        return exec, ("import os; os._exit(3)",)


def test_a_version_in_production_that_ends_its_process_ends_no_other(store: Store) -> None:
    manifest = publish(_pipeline(), "sides", FRAME, TRUTH).manifest
    files = store.read_all(manifest) | {PIPELINE: pickling.dump(Ends()).data}
    rows = Rows(frame=FRAME, truth=TRUTH, held_out=True, of=len(FRAME))
    with pytest.raises(NotMeasurable, match=r"sides@1 cannot be loaded here: .* exit code 3"):
        ask_apart(manifest, files, rows)


def test_a_version_in_production_that_cannot_be_loaded_holds_up_nobody(store: Store) -> None:
    first = publish(_pipeline(), "sides", FRAME, TRUTH, promote=True)
    (first.path / PIPELINE).write_bytes(b"broken")
    second = publish(_pipeline(), "sides", FRAME, TRUTH)
    assert "sides@1 cannot be loaded here: CorruptArtifact" in second.report.read_text()
    assert "In production before" in second.report.read_text()


# Data


def test_the_same_data_have_the_same_hash_whatever_their_index() -> None:
    again = FRAME.copy().set_axis(range(100, 140))
    assert lineage.data_sha256(again) == lineage.data_sha256(FRAME)


@pytest.mark.parametrize(
    "other",
    [
        FRAME.iloc[::-1],
        FRAME.rename(columns={"x": "y"}),
        FRAME.astype({"n": "float64"}),
        FRAME.assign(n=FRAME["n"].where(FRAME["n"] != 7, 8)),
        FRAME[["n", "x"]],
    ],
    ids=["other order", "other name", "other type", "other value", "other columns"],
)
def test_other_data_have_another_hash(other: pd.DataFrame) -> None:
    assert lineage.data_sha256(other) != lineage.data_sha256(FRAME)


def test_data_without_a_hash_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lineage.data_sha256([[[1], [2]], [[3], [4]]]) is None
    monkeypatch.setattr(lineage, "HASHED_CELLS", 79)
    assert lineage.data_sha256(FRAME) is None


# Code


def _git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A git checkout with one committed training script."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "train.py").write_text("one = 1\n")
    _git(folder, "init")
    _git(folder, "add", ".")
    _git(folder, "commit", "-m", "one")
    return folder


@needs_git
def test_the_commit_of_the_training_script_is_found(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [str(checkout / "train.py")])
    monkeypatch.chdir(checkout.parent)
    assert re.fullmatch(r"[0-9a-f]{40} \(of the training script\)", lineage.commit_here())


@needs_git
def test_a_checkout_around_the_kernel_of_a_notebook_is_not_the_one_of_the_job(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = checkout / ".venv/lib/python3.11/site-packages/ipykernel_launcher.py"
    kernel.parent.mkdir(parents=True)
    kernel.write_text("")
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.setattr("sys.argv", [str(kernel)])
    monkeypatch.chdir(notebooks)
    assert lineage.commit_here().startswith("none")
    monkeypatch.chdir(checkout)
    assert lineage.commit_here().endswith("(of the working directory)")


@needs_git
def test_changes_that_are_not_committed_are_told(checkout: Path) -> None:
    (checkout / "train.py").write_text("two = 2\n")
    assert (lineage.commit_of(checkout) or "").endswith(", with uncommitted changes")


@needs_git
def test_no_program_of_a_checkout_is_run(checkout: Path, tmp_path: Path) -> None:
    """git compares files by the filters of a checkout: whoever can write its config could run a program."""
    mark = tmp_path / "ran"
    (checkout / ".gitattributes").write_text("* filter=mine\n")
    _git(checkout, "add", ".")
    _git(checkout, "commit", "-m", "two")
    _git(checkout, "config", "filter.mine.clean", f"touch {mark}; cat")
    (checkout / "train.py").write_text("one = 2\n")
    assert "has filters of its own" in str(lineage.commit_of(checkout))
    assert not mark.exists()


@needs_git
def test_outside_a_checkout_there_is_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr("sys.argv", [""])
    monkeypatch.chdir(tmp_path)
    assert lineage.commit_here().startswith("none")


def test_without_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert lineage.commit_of(tmp_path) is None
