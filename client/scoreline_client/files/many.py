"""Several inputs into one directory, and which of its outputs are finished."""

from __future__ import annotations

import fcntl
import glob
import os
from collections.abc import Iterable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from scoreline_client.codes import Code
from scoreline_client.errors import FileRefused
from scoreline_client.files.checkpoint import FORMAT
from scoreline_client.files.run import ScoreSummary
from scoreline_client.files.sink import Target, write_all, writing
from scoreline_client.files.source import STANDARD, file_system, is_url, unreadable
from scoreline_client.options import BulkOptions
from scoreline_client.protocol.messages import ModelRef


def is_many(sources: tuple[str, ...], target: str) -> bool:
    """Whether the target must be a directory: there are several inputs, or it is one already."""
    several = len(sources) > 1 or _is_pattern(sources[0])
    # Not Path.is_dir: it raises where permissions are missing. Opening the file reports that later.
    is_directory = not is_url(target) and os.path.isdir(target)  # noqa: PTH112
    return several or target.endswith("/") or is_directory


def outputs_for(sources: Iterable[str], directory: str) -> list[tuple[str, str]]:
    """Each input, patterns expanded and sorted by name, and its output in a directory.

    Raises:
        FileRefused: a pattern matches nothing, two outputs would have one name, or the directory
            cannot be made.
    """
    inputs: list[str] = []
    for source in sources:
        names = [source]
        if _is_pattern(source):
            if is_url(source):
                fs, path = file_system(source)
                try:
                    names = [str(fs.unstrip_protocol(match)) for match in fs.glob(path)]
                except OSError as error:
                    raise unreadable(source, error) from error
            else:
                matches = glob.iglob(source, recursive=True)  # noqa: PTH207 - it may be absolute
                names = [match for match in matches if os.path.isfile(match)]  # noqa: PTH113 - see is_many
            if not names:
                raise FileRefused(Code.FILE, source, "no file matches")
        inputs += sorted(names)
    if not is_url(directory):
        with writing(directory):
            Path(directory).mkdir(parents=True, exist_ok=True)
    pairs: dict[str, str] = {}
    for name in inputs:
        if name == STANDARD:
            message = "standard input has no name for a file in a directory"
            raise FileRefused(Code.FILE, name, message)
        target = f"{directory.rstrip('/')}/{name.rstrip('/').rpartition('/')[2]}"
        if target in pairs:
            message = f"{pairs[target]} and {name} would both go here"
            raise FileRefused(Code.FILE, target, message)
        pairs[target] = name
    return [(source, target) for target, source in pairs.items()]


class FinishedFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file that was scored to its end into a directory."""

    target: str
    """The output's name in the directory."""
    output: dict[str, int]
    """The output's size, and when it was written."""
    input: dict[str, Any]
    options: dict[str, Any]
    model: str
    version: int
    rows: int
    rejected: int
    format: int = FORMAT


class FinishedFiles:
    """`.scoreline.journal` in a directory: a line for each file that was scored into it to its end."""

    def __init__(self, directory: str) -> None:
        self._path = Path(directory) / ".scoreline.journal"

    @cached_property
    def by_target(self) -> dict[str, FinishedFile]:
        """The last line of each output, as they were at the first use; damaged lines are ignored."""
        by_target: dict[str, FinishedFile] = {}
        with suppress(OSError):
            for line in self._path.read_bytes().splitlines():
                with suppress(msgspec.DecodeError):
                    finished = msgspec.json.decode(line, type=FinishedFile)
                    by_target[finished.target] = finished
        return by_target

    def find(
        self, target: Target, facts: dict[str, Any] | None, model: ModelRef, options: BulkOptions
    ) -> FinishedFile | None:
        """The record of an output that was made of this input, by this model and with these options.

        None if any of that is unknown: the file must then be scored. Which version the model's alias
        names now is for the caller to compare. `facts` are the input's, see `facts_of`.
        """
        if target.is_url or target.is_unfinished():
            return None
        finished = self.by_target.get(target.final.name)
        if finished is None or finished.output != _output_facts(target) or facts is None:
            return None
        made_of = (finished.format, finished.input, finished.options)
        if made_of != (FORMAT, facts, options.bound()):
            return None
        if finished.model != model.name or model.version not in (None, finished.version):
            return None
        limit = options.max_errors
        if limit is not None and limit.exceeded(finished.rejected, finished.rows, at_end=True):
            return None
        return finished

    def add(
        self,
        target: Target,
        facts: dict[str, Any] | None,
        options: BulkOptions,
        summary: ScoreSummary,
    ) -> None:
        """Append the record of an output, unless it is elsewhere or its input cannot be recognised."""
        output = None if target.is_url else _output_facts(target)
        if facts is None or output is None:
            return
        finished = FinishedFile(
            target=target.final.name,
            output=output,
            input=facts,
            options=options.bound(),
            model=summary.model,
            version=summary.version,
            rows=summary.rows,
            rejected=summary.rejected,
        )
        # The output is complete in any case; without a record it is only made once more.
        with suppress(OSError), self._path.open("a+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            is_complete = file.read(1) in (b"", b"\n")
            line = msgspec.json.encode(finished) + b"\n"
            write_all(file, line if is_complete else b"\n" + line)


def _output_facts(target: Target) -> dict[str, int] | None:
    try:
        status = target.final.stat()
    except OSError:
        return None
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _is_pattern(name: str) -> bool:
    is_wild = any(mark in name for mark in "*?[")
    return is_wild and (is_url(name) or not os.path.exists(name))  # noqa: PTH110 - see is_many
