"""A worker whose environment is whatever the index gives is given that of training, as its own refusal says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.acceptance, pytest.mark.exhaustive, pytest.mark.timeout(1800)]


def _run(
    *command: str | Path, at: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=at,
        env={**os.environ, "COLUMNS": "400", **environment},
    )


def _installed(folder: Path, *requirements: str | Path) -> Path:
    """Where the programs of a fresh environment are, with the newest versions that fit."""
    venv.create(folder, with_pip=True)
    _install(folder / "bin", *requirements)
    return folder / "bin"


def _install(scripts: Path, *requirements: str | Path) -> None:
    done = _run(
        scripts / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        *requirements,
    )
    assert done.returncode == 0, done.stderr


def test_a_refused_version_is_served_once_its_advice_was_followed(tmp_path: Path) -> None:
    built = _run(sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path, ROOT)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    where = {
        "SCORELINE_ARTIFACTS": str(tmp_path / "store"),
        "SCORELINE_KEYS": str(tmp_path / "keys"),
        "SCORELINE_CACHE": str(tmp_path / "cache"),
        "SCORELINE_REDIS_URL": "redis://127.0.0.1:1/0",
    }
    training = _installed(tmp_path / "training", f"scoreline[training] @ {wheel.as_uri()}")
    trained = _run(training / "scoreline", "train", "pima", "--promote", at=tmp_path, **where)
    assert trained.returncode == 0, trained.stderr

    worker = _installed(tmp_path / "worker", f"scoreline[worker] @ {wheel.as_uri()}")
    inspected = ("inspect", "pima", "--check")
    refused = _run(worker / "scoreline", *inspected, at=tmp_path, **where)
    assert refused.returncode == 1, refused.stdout
    assert "sklearn-pandas 2.2.0 is not installed" in refused.stdout
    said = re.search("`(scoreline inspect [^`]*)`, then `(pip install [^`]*)`", refused.stdout)
    assert said is not None, refused.stdout
    path = f"{worker}:{os.environ['PATH']}"
    for command in said.groups():
        done = _run("sh", "-c", command, at=tmp_path, **where, PATH=path)
        assert done.returncode == 0, done.stderr
    served = _run(worker / "scoreline", *inspected, at=tmp_path, **where)
    assert served.returncode == 0, served.stdout + served.stderr
    assert "this environment can serve it" in served.stdout
