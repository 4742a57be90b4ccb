"""Several inputs into one directory."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

from scoreline_client.codes import Code
from scoreline_client.errors import FileRefused
from scoreline_client.files.sink import Target
from scoreline_client.files.source import STANDARD, file_system, is_url

_WILD = "*?["


def is_many(sources: tuple[str, ...], target: str) -> bool:
    """Whether the target must be a directory: there are several inputs, or it is one already."""
    several = len(sources) > 1 or _is_pattern(sources[0])
    return several or target.endswith("/") or (not is_url(target) and Path(target).is_dir())


def outputs_for(sources: Iterable[str], directory: str) -> list[tuple[str, str]]:
    """Each input, patterns expanded and in order of names, and its output in a directory.

    Raises:
        FileRefused: a pattern matches nothing, or two outputs would have one name.
    """
    inputs = [one for source in sources for one in _expanded(source)]
    if not is_url(directory):
        Path(directory).mkdir(parents=True, exist_ok=True)
    pairs: dict[str, str] = {}
    for one in inputs:
        if one == STANDARD:
            raise FileRefused(
                Code.FILE, one, "standard input has no name for a file in a directory"
            )
        target = f"{directory.rstrip('/')}/{one.rstrip('/').rpartition('/')[2]}"
        if target in pairs:
            message = f"{pairs[target]} and {one} would both go here"
            raise FileRefused(Code.FILE, target, message)
        pairs[target] = one
    return [(source, target) for target, source in pairs.items()]


def is_done(source: str, target: Target) -> bool:
    """Whether an output is there already and is younger than its input; of URLs nobody knows."""
    if target.is_url or is_url(source) or target.is_unfinished() or not target.final.exists():
        return False
    return target.final.stat().st_mtime >= Path(source).stat().st_mtime


def _is_pattern(name: str) -> bool:
    return any(one in name for one in _WILD) and (is_url(name) or not Path(name).exists())


def _expanded(source: str) -> list[str]:
    if not _is_pattern(source):
        return [source]
    if is_url(source):
        fs, path = file_system(source)
        found = [str(fs.unstrip_protocol(one)) for one in fs.glob(path)]
    else:
        found = [one for one in glob.iglob(source, recursive=True) if Path(one).is_file()]  # noqa: PTH207 - a pattern may be absolute
    if not found:
        raise FileRefused(Code.FILE, source, "no file matches")
    return sorted(found)
