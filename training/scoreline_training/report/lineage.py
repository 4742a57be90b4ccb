"""Where a version comes from: the hash of its data, and the git commit of its code."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

GIT_TIMEOUT_S = 5
HASHED_CELLS = 50_000_000
"""A larger frame is not hashed: it would take longer than all the rest of the report."""


def data_sha256(data: Any) -> str | None:
    """sha256 over the names, types and values of a frame or of labels.

    The order of rows counts, the index does not; values are hashed as `pandas.util.hash_pandas_object`
    does it. None for data that are very large or cannot be hashed.
    """
    frame = pd.DataFrame(data)
    if frame.size > HASHED_CELLS:
        return None
    digest = hashlib.sha256()
    for name, dtype in frame.dtypes.items():
        digest.update(f"{name!r}:{dtype}\n".encode(errors="backslashreplace"))
    try:
        hashes = pd.util.hash_pandas_object(frame, index=False)
    # Values that have no hash, such as lists among the labels, or text that has no UTF-8.
    except (TypeError, ValueError):
        return None
    digest.update(np.ascontiguousarray(hashes).tobytes())
    return digest.hexdigest()


def commit_here() -> str:
    """The git commit of the running script's folder, else of the working directory, in words."""
    script = Path(sys.argv[0]).resolve() if sys.argv else Path()
    # In a notebook it is the kernel's: installed, often below a checkout that has nothing to do with the job.
    is_installed = not {"site-packages", "dist-packages"}.isdisjoint(script.parts)
    if script.suffix == ".py" and script.is_file() and not is_installed:
        commit = commit_of(script.parent)
        if commit is not None:
            return f"{commit} (of the training script)"
    commit = commit_of(Path.cwd())
    if commit is not None:
        return f"{commit} (of the working directory)"
    return "none: the job does not run from a git checkout"


def commit_of(folder: Path) -> str | None:
    """The git commit that a folder is checked out from, and whether files differ from it."""
    described = _git(folder, "describe", "--always", "--abbrev=40", "--exclude=*")
    if described is None or described.returncode != 0:
        return None
    commit = described.stdout.strip()
    # To compare files git runs the filters of a checkout: programs of whoever made it, or may write to it.
    filters = _git(folder, "config", "--show-scope", "--get-regexp", r"^filter\.")
    lines = filters.stdout.splitlines() if filters is not None else []
    scopes = {line.partition("\t")[0] for line in lines}
    has_none = (
        filters is not None and filters.returncode in (0, 1) and scopes <= {"system", "global"}
    )
    state = ("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=dirty")
    changed = _git(folder, *state) if has_none else None
    if changed is None or changed.returncode != 0:
        return f"{commit}, with or without uncommitted changes: the checkout has filters of its own"
    return f"{commit}, with uncommitted changes" if changed.stdout else commit


def _git(folder: Path, *command: str) -> subprocess.CompletedProcess[str] | None:
    """Run the user's git in a folder; None if it cannot be run, or is not done in time."""
    # No hook of the checkout is run, and no lock is taken that the user's own git may wait for.
    options = ("-C", str(folder), "--no-optional-locks", "-c", "core.fsmonitor=false")
    try:
        return subprocess.run(  # noqa: S603 - fixed arguments, no shell
            ("git", *options, *command),  # noqa: S607 - the user's own git
            capture_output=True,
            text=True,
            errors="replace",
            timeout=GIT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
