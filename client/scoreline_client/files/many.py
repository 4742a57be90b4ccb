"""Several inputs into one directory."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from scoreline_client.codes import Code
from scoreline_client.errors import FileRefused
from scoreline_client.files.checkpoint import FinishedFile, FinishedFiles
from scoreline_client.files.run import ScoreSummary
from scoreline_client.files.sink import Target, writing
from scoreline_client.files.source import STANDARD, file_system, is_url, unreadable
from scoreline_client.options import BulkOptions
from scoreline_client.protocol.messages import ModelRef

_WILD = "*?["


def is_many(sources: tuple[str, ...], target: str) -> bool:
    """Whether the target must be a directory: there are several inputs, or it is one already."""
    several = len(sources) > 1 or _is_pattern(sources[0])
    # Not Path's: that raises where a directory may not be looked into. Opening the file says so later.
    is_there = not is_url(target) and os.path.isdir(target)  # noqa: PTH112
    return several or target.endswith("/") or is_there


def outputs_for(sources: Iterable[str], directory: str) -> list[tuple[str, str]]:
    """Each input, patterns expanded and in order of names, and its output in a directory.

    Raises:
        FileRefused: a pattern matches nothing, two outputs would have one name, or the directory
            cannot be made.
    """
    inputs = [one for source in sources for one in _expanded(source)]
    if not is_url(directory):
        with writing(directory):
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


def finished(
    known: Mapping[str, FinishedFile],
    target: Target,
    facts: dict[str, Any] | None,
    model: ModelRef,
    options: BulkOptions,
) -> FinishedFile | None:
    """The record of an output that was made of this input, by this model and under these options.

    None if any of that is not known; then the file is to be scored. Which version the model's alias
    names now is for the caller to compare.
    """
    if target.is_url or target.is_unfinished():
        return None
    one = known.get(target.final.name)
    if (
        one is None
        or one.output != _facts_of_output(target)
        or not one.is_of(facts, options.bound())
    ):
        return None
    if one.model != model.name or model.version not in (None, one.version):
        return None
    limit = options.max_errors
    if limit is not None and limit.exceeded(one.rejected, one.rows, at_end=True):
        return None
    return one


def note_finished(
    target: Target, facts: dict[str, Any] | None, options: BulkOptions, summary: ScoreSummary
) -> None:
    """Remember for a later run that an output is whole, and of what it was made."""
    output = None if target.is_url else _facts_of_output(target)
    if facts is None or output is None:
        return
    one = FinishedFile(
        target=target.final.name,
        output=output,
        input=facts,
        options=options.bound(),
        model=summary.model,
        version=summary.version,
        rows=summary.rows,
        rejected=summary.rejected,
    )
    # The output is there in any case; without a record it is only made once more.
    with suppress(OSError):
        FinishedFiles(target.final.parent).add(one)


def _facts_of_output(target: Target) -> dict[str, int] | None:
    try:
        status = target.final.stat()
    except OSError:
        return None
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _is_pattern(name: str) -> bool:
    return any(one in name for one in _WILD) and (
        is_url(name) or not os.path.exists(name)  # noqa: PTH110 - as above
    )


def _expanded(source: str) -> list[str]:
    if not _is_pattern(source):
        return [source]
    if is_url(source):
        fs, path = file_system(source)
        try:
            found = [str(fs.unstrip_protocol(one)) for one in fs.glob(path)]
        except OSError as error:
            raise unreadable(source, error) from error
    else:
        found = [one for one in glob.iglob(source, recursive=True) if os.path.isfile(one)]  # noqa: PTH113, PTH207 - as above; a pattern may be absolute
    if not found:
        raise FileRefused(Code.FILE, source, "no file matches")
    return sorted(found)
