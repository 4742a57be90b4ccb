"""Where a version comes from: data, code, machine."""

from __future__ import annotations

import hashlib
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

GIT_TIMEOUT_S = 5
HASHED_CELLS = 50_000_000
"""A larger frame is not hashed: it would take longer than all the rest of the report."""


@dataclass(frozen=True, slots=True)
class Commit:
    """The state of the git checkout that a training job ran from."""

    commit: str
    changed: bool | None
    """Whether tracked files differ from the commit; None if git does not say."""
    of: str
    """What stands in the checkout: the training script, or the working directory."""


def data_sha256(data: Any) -> str | None:
    """sha256 over the names, types and values of a frame or of labels; None if there is none.

    There is none of data that are very many or have no hash. The order of rows counts, the index does
    not. Values are hashed as `pandas.util.hash_pandas_object` does it, row by row.
    """
    frame = pd.DataFrame(data)
    if frame.size > HASHED_CELLS:
        return None
    digest = hashlib.sha256()
    for name, dtype in frame.dtypes.items():
        digest.update(f"{name!r}:{dtype}\n".encode(errors="backslashreplace"))
    try:
        digest.update(
            np.ascontiguousarray(pd.util.hash_pandas_object(frame, index=False)).tobytes()
        )
    # Values that have no hash, such as lists among the labels, or text that has no UTF-8.
    except (TypeError, ValueError):
        return None
    return digest.hexdigest()


def commit_here() -> Commit | None:
    """The git commit of the running script's folder, else of the working directory; None without one."""
    script = Path(sys.argv[0]) if sys.argv else Path()
    if script.suffix == ".py" and script.is_file():
        found = commit_of(script.resolve().parent, "the training script")
        if found is not None:
            return found
    return commit_of(Path.cwd(), "the working directory")


def commit_of(folder: Path, of: str) -> Commit | None:
    """The git commit that a folder is checked out from, or None."""
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return None
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return Commit(commit, None if changed is None else changed != "", of)


def _git(folder: Path, *arguments: str) -> str | None:
    # No hook of the checkout is run, and no lock is taken that the user's own git may wait for.
    options = ("-C", str(folder), "--no-optional-locks", "-c", "core.fsmonitor=false")
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments, no shell
            ("git", *options, *arguments),  # noqa: S607 - the user's own git
            capture_output=True,
            text=True,
            errors="replace",
            timeout=GIT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def platform_facts() -> list[tuple[str, str]]:
    """Interpreter, system and processor; nothing that names the machine or its user."""
    return [
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
        ("System", f"{platform.system()} {platform.release()}"),
        ("Processor", platform.machine()),
    ]
