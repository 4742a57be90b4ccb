"""`scoreline train`: the Pima job, and scripts of users."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner, Result

from scoreline_artifacts import Store
from scoreline_artifacts.loading.artifact import load
from scoreline_artifacts.store import releases
from scoreline_training.cli import train
from scoreline_training.jobs import pima

SCRIPT = """
import pandas as pd
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from scoreline_training import publish

FACTOR = 10

def enlarge(frame):
    return frame * FACTOR

frame = pd.DataFrame({"x": [1.0, 2.0, 3.0, 5.0]})
pipeline = make_pipeline(FunctionTransformer(enlarge), LinearRegression())
pipeline.fit(frame, frame["x"])
publish(pipeline, "lines", frame)
"""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty store; no Redis answers."""
    monkeypatch.setenv("SCORELINE_REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("SCORELINE_ARTIFACTS", str(tmp_path / "store"))
    return Store(tmp_path / "store")


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "train_lines.py"
    path.write_text(SCRIPT)
    return path


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(train, arguments)


def test_pima_is_trained_published_and_promoted(store: Store) -> None:
    result = _run("pima", "--promote")
    assert result.exit_code == 0, result.output
    assert "confusion matrix" in result.output
    assert releases.current(store, "pima") is not None
    manifest = store.manifest("pima", 1)
    assert {"accuracy", "roc_auc", "confusion_matrix"} <= manifest.metrics.keys()


def test_json_is_one_object_with_the_figures(store: Store) -> None:
    said = json.loads(_run("pima", "--json", "--strength", "0.1").output)
    assert (said["model"], said["version"], said["promoted"]) == ("pima", 1, False)
    assert said["metrics"]["rows"] == 254
    assert "On 254 held-out rows" in Path(said["report"]).read_text()


def test_training_leaves_no_process_and_no_warning(store: Store, tmp_path: Path) -> None:
    code = "from scoreline_training.cli import train; train(['pima', '--json'])"
    process = psutil.Popen(
        [sys.executable, "-W", "error", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    _, error = process.communicate(timeout=100)
    assert (process.returncode, error) == (0, b"")
    left = [one for one in psutil.process_iter() if _session(one.pid) == process.pid]
    _, alive = psutil.wait_procs(left, timeout=20)
    assert alive == []


def _session(pid: int) -> int:

    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return -1


def test_what_a_script_defines_travels_with_its_pipeline(store: Store, script: Path) -> None:
    # In a process of its own, so that this one has never seen the script's functions.
    code = f"from scoreline_training.cli import train; train([{str(script)!r}])"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
    loaded = load(store, "lines", 1)
    checked = [{"x": 7.0}]
    assert loaded.score_records(checked)[0].value == pytest.approx(7.0)


@pytest.mark.parametrize(("options", "released"), [([], False), (["--promote"], True)])
def test_promote_reaches_the_script(
    store: Store, script: Path, options: list[str], released: bool
) -> None:
    assert _run(str(script), *options).exit_code == 0
    assert (releases.current(store, "lines") is not None) == released


def test_a_script_finds_the_modules_beside_it(store: Store, script: Path) -> None:
    (script.parent / "beside.py").write_text("NAME = 'lines2'\n")
    script.write_text("import beside\n" + SCRIPT.replace('"lines"', "beside.NAME"))
    before = list(sys.path)
    assert _run(str(script)).exit_code == 0
    assert store.models() == ["lines2"]
    assert sys.path == before


def test_a_script_tells_what_it_published(store: Store, script: Path) -> None:
    output = _run(str(script)).output
    assert f"published lines@1 to {store.path('lines', 1)}" in output
    assert "`scoreline promote lines 1` releases it" in output
    assert f"training report: {store.path('lines', 1) / 'report.html'}" in output


def test_a_script_tells_what_travels_and_what_is_warned_of(store: Store, script: Path) -> None:
    (script.parent / "aged.py").write_text(
        "import datetime\ndef this_year():\n    return datetime.date.today().year\n"
    )
    called = SCRIPT.replace("return frame", "aged.this_year(); return frame")
    script.write_text(f"import aged\n{called}")
    output = _run(str(script)).output
    assert "from the project: aged.py" in output
    assert "warning W_CLOCK: line aged.py:3 calls date.today" in output
    said = json.loads(_run(str(script), "--json").stdout)
    assert (said["travels"], said["warnings"][0]["code"]) == (["aged.py"], "W_CLOCK")


def test_a_script_tells_each_version_as_json(store: Store, script: Path) -> None:
    script.write_text(SCRIPT + "publish(pipeline, 'lines', frame)\n")
    said = [json.loads(line) for line in _run(str(script), "--json").output.splitlines()]
    assert [one["version"] for one in said] == [1, 2]


def test_a_script_that_publishes_nothing_fails(store: Store, script: Path) -> None:
    script.write_text("")
    result = _run(str(script))
    assert result.exit_code == 2
    assert "published nothing" in result.output


def test_a_script_finds_only_its_own_path_among_the_arguments(store: Store, script: Path) -> None:
    script.write_text(f"import sys; assert sys.argv == [{str(script)!r}]\n" + SCRIPT)
    before = sys.argv
    assert _run(str(script), "--promote").exit_code == 0
    assert sys.argv is before


@pytest.mark.parametrize(("status", "exit_code"), [("", 0), ("0", 0), ("3", 3)])
def test_a_script_may_end_itself(store: Store, script: Path, status: str, exit_code: int) -> None:
    script.write_text(SCRIPT + f"raise SystemExit({status})\n")
    assert _run(str(script)).exit_code == exit_code


def test_a_strength_is_wrong_usage_with_a_script(store: Store, script: Path) -> None:
    result = _run(str(script), "--strength", "1")
    assert result.exit_code == 2
    assert "--strength is for pima" in result.output
    assert store.models() == []


def test_a_bad_setting_is_named(
    store: Store, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCORELINE_RESULT_TTL_S", "soon")
    result = _run(str(script), "--promote")
    assert result.exit_code == 2
    assert "SCORELINE_RESULT_TTL_S" in result.output


def test_a_store_that_cannot_be_used_is_trouble_with_the_store(
    tmp_path: Path, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script.write_text(
        "from scoreline_artifacts import StoreUnreachable; raise StoreUnreachable('s3://x', 'no')"
    )
    result = _run(str(script))
    assert result.exit_code == 3
    assert "s3://x" in result.stderr


def test_a_script_whose_data_are_unfit_says_why(store: Store, script: Path) -> None:
    script.write_text(SCRIPT.replace('"lines", frame', '"lines", frame.to_numpy()'))
    result = _run(str(script))
    assert result.exit_code == 2
    assert "give the pandas DataFrame" in result.output


@pytest.mark.parametrize("job", ["nothing", "missing/script.py"])
def test_an_unknown_job_is_wrong_usage(store: Store, job: str) -> None:
    result = _run(job)
    assert result.exit_code == 2
    assert "neither a job that comes with Scoreline (pima) nor a file" in result.output


@pytest.mark.parametrize("strength", ["0", "-1", "strong"])
def test_a_strength_must_be_a_positive_number(store: Store, strength: str) -> None:
    assert _run("pima", "--strength", strength).exit_code == 2


def test_help_shows_examples() -> None:
    assert "scoreline train pima --promote" in _run("--help").output


def test_pima_without_its_libraries_says_what_to_install(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn_pandas", None)
    monkeypatch.delitem(sys.modules, "scoreline_training.jobs.pima.training", raising=False)
    monkeypatch.delattr(pima, "training", raising=False)
    result = _run("pima", "--promote")
    assert result.exit_code == 2
    assert "scoreline train pima needs sklearn-pandas, which is not installed" in result.output
    assert "pip install 'scoreline[training]'" in result.output
    assert store.models() == []


def test_publish_without_its_libraries_says_what_to_install() -> None:
    code = "import sys; sys.modules['numpy'] = None; from scoreline_training import publish"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    words = "scoreline_training needs numpy, which is not installed: pip install 'scoreline[publishing]'"
    assert done.stderr.splitlines()[-1].endswith(words)
