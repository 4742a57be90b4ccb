"""What people really put into pipelines answers, where nobody has seen it, as it did in training."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.zoo.zoo import PROJECTS, REFUSED, Zoo, environment

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(900)]

MAY_BE_ABSENT = {"xgboost", *(() if find_spec("sklearn_pandas") else ("sklearn_pandas",))}
"""Libraries that the development environment does not bring: xgboost comes with a gigabyte for GPUs, and sklearn-pandas
does not run with the newest scikit-learn."""

REASONS = {
    "changed_constant": "a module's variable that was changed after the import",
    "compiled_only": "module 'hidden'.* has no Python source",
    "database": "cannot pickle 'sqlite3.Connection' object",
    "environment_variable": "line regions.py:5 reads the environment variable 'REGION_FACTOR'",
    "file_beside_module": "line limits.py:4 opens the file '.*limits.json', which is not there",
    "file_by_absolute_path": "it opens the file '.*/limits.txt', which is not there",
    "file_in_working_directory": "it opens the file 'limits.json', which is not there",
    "generator": "cannot pickle 'generator' object",
    "looks_itself_up": "NameError at hints.py:15: name 'Kind' is not defined",
    "metaclass_in_script": "Put it into a module beside the script",
    "module_made_by_hand": r"no module 'generated' there; pipeline.steps\[0\]\[1\].func refers to",
    "open_file": "cannot pickle the open file 'seen.log'",
    "pydantic_in_script": "'Row' is defined in the training script .* Put it into a module beside the script",
    "random_answers": "asked twice for the training row .* it is random",
    "too_much_data": r"at most 16,777,216 travel. The largest: tables/huge.bin \(300,000,000 bytes\)",
}
"""What the refusal of each pipeline that does not travel says."""


@pytest.mark.parametrize("name", PROJECTS)
def test_a_pipeline_answers_where_its_project_is_not_as_in_training(zoo: Zoo, name: str) -> None:
    verdict = zoo.verdicts[name]
    if verdict.missing:
        assert verdict.missing in MAY_BE_ABSENT
        return
    assert verdict.problem is None, zoo.log(name)
    assert verdict.equal == verdict.rows > 0


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_travel_is_not_published_and_says_why(zoo: Zoo, name: str) -> None:
    assert zoo.store.versions(name.replace("_", "-")) == []
    assert re.search(REASONS[name], zoo.verdicts[name].problem or "published after all")


def test_projects_leave_nothing_behind_where_they_were_trained(zoo: Zoo) -> None:
    assert list((zoo.out / "projects").iterdir()) == []


def test_only_a_pipeline_that_depends_on_company_is_scored_one_by_one(zoo: Zoo) -> None:
    alone = [one.project for one in zoo.verdicts.values() if not one.batchable]
    assert alone == ["not_batchable"]


@pytest.mark.parametrize(
    ("name", "secret", "travels"),
    [
        ("secrets-stay-home", b"battery-staple", {"shaping"}),
        ("package-with-subpackages", b"hunter2", None),
    ],
)
def test_secrets_stay_home(zoo: Zoo, name: str, secret: bytes, travels: set[str] | None) -> None:
    folder = zoo.store.path(name, 1)
    files = [one for one in folder.rglob("*") if one.is_file()]
    assert [str(one) for one in files if secret in one.read_bytes()] == []
    assert travels is None or set(zoo.store.manifest(name, 1).sources) == travels


def test_two_versions_of_a_model_have_modules_of_the_same_names(zoo: Zoo) -> None:
    old, new = (zoo.store.manifest("pricing", version) for version in (1, 2))
    assert {"common", "features"} <= set(old.sources) & set(new.sources)
    assert old.files.keys() & new.files.keys() != old.files.keys()
    assert zoo.verdicts["pricing_2023"].version != zoo.verdicts["pricing_2024"].version


PYTHON = (sys.executable, "train.py")
SCORELINE = (Path(sys.executable).with_name("scoreline"), "train", "train.py")


@pytest.mark.parametrize(
    ("name", "command"),
    [
        pytest.param("main_and_local", PYTHON, id="main_and_local-python"),
        pytest.param("main_functions", SCORELINE, id="main_functions-scoreline"),
        pytest.param(
            "main_and_local", SCORELINE, id="main_and_local-scoreline", marks=pytest.mark.exhaustive
        ),
        pytest.param(
            "main_functions", PYTHON, id="main_functions-python", marks=pytest.mark.exhaustive
        ),
    ],
)
def test_a_script_publishes_the_same_however_it_is_started(
    zoo: Zoo, tmp_path: Path, name: str, command: tuple[str, ...]
) -> None:
    shutil.copytree(PROJECTS[name], tmp_path / "project")
    surroundings = environment(tmp_path)
    subprocess.run(command, cwd=tmp_path / "project", env=surroundings, check=True)
    stores = (zoo.store, Zoo(tmp_path, {}).store)
    here, there = (store.manifest(name.replace("_", "-"), 1) for store in stores)
    assert here.files["golden.jsonl"] == there.files["golden.jsonl"]
    assert here.sources == there.sources


def test_the_notes_of_training_are_about_raw_rows(zoo: Zoo) -> None:
    """Guards the zoo itself: parity of nothing would be parity, too."""
    for name in PROJECTS:
        note = zoo.note(name)
        if not note["missing"]:
            assert len(note["records"]) == len(note["values"]) == 40, name
