"""Journals: how far a run is, so that another process can go on, and which files of a directory are done.

A journal is a file of JSON lines beside the output. Its first line describes the run: which input, which
options, which version. A line follows for every chunk whose output was written: where the input goes on,
how long the output and the error report are, and the counts so far. Lines are only appended; a line that
a kill has cut short counts as not written.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from scoreline_client.codes import Code
from scoreline_client.errors import FileRefused
from scoreline_client.files.reader import Position
from scoreline_client.files.sink import Target, check_regular, open_private, write_all, writing
from scoreline_client.options import BulkOptions
from scoreline_client.protocol.messages import ModelRef

if TYPE_CHECKING:
    from scoreline_client.files.run import ScoreSummary

FORMAT = 1
"""Raise it when the meaning of a line changes; a journal of another format is not resumed."""


class Mark(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How far a run is: a line of its journal."""

    position: Position = msgspec.field(name="place")
    """Where the input goes on."""
    plain: int
    """Bytes of output up to here, before compression."""
    flushed: tuple[int, int]
    """How many of those bytes are in the file, and how long the file is with them."""
    errors: int
    """Bytes of the error report up to here."""
    rejected: dict[str, int] = {}
    warned: dict[str, int] = {}
    doubts: dict[str, tuple[int, str]] = {}
    """What values may have meant instead, where there is any doubt; see `Doubts`."""
    notes: tuple[str, ...] = ()
    """Notes about the input that were made after its header was read."""
    seconds: float = 0.0


class Run(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The input, options and version of a run: the first line of its journal. A run that is resumed must do the same."""

    input: dict[str, Any]
    options: dict[str, Any]
    model: str
    version: int
    header: str
    """The output's beginning, in hexadecimal digits."""
    format: int = FORMAT

    def difference(self, other: Run) -> str | None:
        """How another run differs, in words; None if it does not."""
        if self.format != other.format:
            return "the journal was written by another release of Scoreline"
        if self.input != other.input:
            return f"the input is not the same as then ({_differing(self.input, other.input)})"
        if self.options != other.options:
            return (
                f"the options are not the same as then ({_differing(self.options, other.options)})"
            )
        if self.header != other.header:
            return "the output's columns would not be the same as then"
        return None


class Journal:
    """The journal of an output; while it is open, no other run can open it."""

    def __init__(self, path: Path) -> None:
        """Open a journal for appending.

        Raises:
            FileRefused: another process has it open, or it is no regular file.
        """
        self.path = path
        self._file: Any = open_private(path)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            message = "another run is writing this output at this moment"
            raise FileRefused(Code.UNFINISHED, str(path), message) from None

    def read(self) -> tuple[Run | None, list[Mark]]:
        """The run and its marks; an incomplete or damaged line ends them, and is removed."""
        self._file.seek(0)
        run: Run | None = None
        marks: list[Mark] = []
        complete = 0
        for line in self._file.read().splitlines(keepends=True):
            try:
                if not line.endswith(b"\n"):
                    break
                if run is None:
                    run = msgspec.json.decode(line, type=Run)
                else:
                    marks.append(msgspec.json.decode(line, type=Mark))
            # A power cut may leave any bytes after those that had reached the disk.
            except (msgspec.DecodeError, UnicodeDecodeError):
                break
            complete += len(line)
        self._file.truncate(complete)
        return run, marks

    def clear(self) -> None:
        """Forget an earlier run."""
        self._file.truncate(0)

    def append(self, line: Run | Mark) -> None:
        """Write the run, or how far it is; the output of a mark must be written already."""
        write_all(self._file, msgspec.json.encode(line) + b"\n")

    def close(self) -> None:
        """Let other runs open it."""
        self._file.close()

    def remove(self) -> None:
        """Remove the file: the run has ended."""
        self.path.unlink(missing_ok=True)
        self.close()


@contextmanager
def locked_journal(target: Target, options: BulkOptions) -> Iterator[Journal | None]:
    """The journal of an output, which no other run can open meanwhile; None for a stream.

    Raises:
        FileRefused: another run has it, or an unfinished run is neither to be resumed nor restarted.
    """
    if target.is_stream:
        if options.resume:
            stream = "standard output" if target.descriptor == 1 else "what is no file"
            message = f"output to {stream} cannot be resumed; name an output file"
            raise FileRefused(Code.UNFINISHED, target.name, message)
        yield None
        return
    with writing(target.name, is_kept=target.is_unfinished()):
        was_there = target.journal.exists()
        journal = Journal(target.journal)
    try:
        if target.is_unfinished() and not (options.resume or options.restart):
            message = (
                f"an unfinished run is there ({target.part}): continue it (--resume), or begin "
                "anew and lose it (--restart)"
            )
            raise FileRefused(Code.UNFINISHED, target.name, message)
        yield journal
    finally:
        # A run that failed before there was anything to resume leaves nothing.
        with suppress(OSError):
            if not was_there and not target.part.exists():
                journal.path.unlink(missing_ok=True)
        journal.close()


def resumable(marks: Sequence[Mark], output_bytes: int, error_bytes: int) -> Mark | None:
    """The last mark from which both files can be continued; None if there is none.

    Compressed output is written in blocks, so the file may end before the last mark's output does: the
    run then goes back to the chunk with which the block began.
    """
    reached = [
        mark for mark in marks if mark.flushed[1] <= output_bytes and mark.errors <= error_bytes
    ]
    if not reached:
        return None
    flushed = reached[-1].flushed
    before = [mark for mark in reached if mark.plain <= flushed[0]]
    return msgspec.structs.replace(before[-1], flushed=flushed) if before else None


def _differing(before: dict[str, Any], now: dict[str, Any]) -> str:
    names = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    return ", ".join(f"{name} was {before.get(name)!r}, is {now.get(name)!r}" for name in names)


# Several files


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
        """The record of a directory, which may not be there yet.

        Raises:
            FileRefused: somebody has put something else than a file there, which would be written to.
        """
        self._path = Path(directory) / ".scoreline.journal"
        check_regular(self._path)

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
        if target.is_url or target.is_stream or target.is_unfinished():
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
        output = None if target.is_url or target.is_stream else _output_facts(target)
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
        with suppress(OSError), open_private(self._path, mode=0o666) as file:
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
