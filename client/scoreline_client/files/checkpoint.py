"""Remembers how far a run has come, so that another process can go on where it was killed.

A journal is a file of JSON lines beside the output. The first line says what is being done: which
input, which options, which version. Every other line says how far it is, after a piece's output was
written: where the input goes on, how long the output and the error report are, and the counts up to
there. Lines are only appended; one that was cut short by a kill is as if it had never been written.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import orjson

from scoreline_client.codes import Code
from scoreline_client.errors import FileRefused
from scoreline_client.files.formats.pieces import Place

FORMAT = 1
"""Raise it when the meaning of a line changes; a journal of another format is not resumed."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a run is."""

    place: Place
    """Where the input goes on."""
    plain: int
    """Bytes of output up to here, before compression."""
    flushed: tuple[int, int]
    """How many of those bytes are in the file, and how long the file is with them."""
    errors: int
    """Bytes of the error report up to here."""
    rejected: dict[str, int] = field(default_factory=dict)
    warned: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def encode(self) -> bytes:
        """A line of the journal."""
        return orjson.dumps(asdict(self)) + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Mark:
        """Read a line."""
        values = orjson.loads(line)
        values["place"] = Place(**values["place"])
        values["flushed"] = tuple(values["flushed"])
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Run:
    """What a run is about: a run that is resumed must be about the same."""

    input: dict[str, Any]
    options: dict[str, Any]
    model: str
    version: int
    header: str
    """The output's beginning, as text of hexadecimal digits."""
    format: int = FORMAT

    def encode(self) -> bytes:
        """The first line of the journal."""
        return orjson.dumps(asdict(self), option=orjson.OPT_SORT_KEYS) + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Run:
        """Read it."""
        return cls(**orjson.loads(line))

    def difference(self, other: Run) -> str | None:
        """What is not the same in another run, in words; None if nothing is."""
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


@dataclass(frozen=True, slots=True)
class Finished:
    """A file that was scored to its end into a directory."""

    target: str
    """The output's name in the directory."""
    output: dict[str, int]
    """What the output looks like: its size, and when it was written."""
    input: dict[str, Any]
    options: dict[str, Any]
    model: str
    version: int
    rows: int
    rejected: int
    format: int = FORMAT

    def is_of(self, facts: dict[str, Any] | None, options: dict[str, Any]) -> bool:
        """Whether it was made of this input, under these options."""
        mine = (self.format, self.input, self.options)
        return facts is not None and mine == (FORMAT, facts, options)


class FinishedFiles:
    """`.scoreline.journal` in a directory: a line for each file that was scored into it to its end."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / ".scoreline.journal"

    def read(self) -> dict[str, Finished]:
        """The last line of each output; lines that are damaged are as if they were not there."""
        found: dict[str, Finished] = {}
        try:
            lines = self._path.read_bytes().splitlines()
        except OSError:
            return found
        for line in lines:
            with suppress(ValueError, TypeError):
                one = Finished(**orjson.loads(line))
                found[one.target] = one
        return found

    def add(self, one: Finished) -> None:
        """Append a line.

        Raises:
            OSError: it cannot be written.
        """
        with self._path.open("a+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            is_whole = file.read(1) in (b"", b"\n")
            line = orjson.dumps(asdict(one), option=orjson.OPT_SORT_KEYS) + b"\n"
            _write_all(file, line if is_whole else b"\n" + line)


class Journal:
    """The file itself; as long as it is open, no other run can have it."""

    def __init__(self, path: Path, file: Any) -> None:
        self.path = path
        self._file = file

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a journal for appending.

        Raises:
            FileRefused: another process has it open.
        """
        file = path.open("a+b", buffering=0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            message = "another run is writing this output at this moment"
            raise FileRefused(Code.UNFINISHED, str(path), message) from None
        return cls(path, file)

    def read(self) -> tuple[Run | None, list[Mark]]:
        """The run, and every mark; what was cut short is cut off."""
        self._file.seek(0)
        run: Run | None = None
        marks: list[Mark] = []
        whole = 0
        for line in self._file.read().splitlines(keepends=True):
            try:
                if not line.endswith(b"\n"):
                    break
                if run is None:
                    run = Run.decode(line)
                else:
                    marks.append(Mark.decode(line))
            # A power cut may leave anything behind what had reached the disk.
            except (ValueError, TypeError, KeyError):
                break
            whole += len(line)
        self._file.truncate(whole)
        return run, marks

    def clear(self) -> None:
        """Forget an earlier run."""
        self._file.truncate(0)

    def begin(self, run: Run) -> None:
        """Write the first line."""
        _write_all(self._file, run.encode())

    def append(self, mark: Mark) -> None:
        """Note how far the run is; what the mark tells of must be written already."""
        _write_all(self._file, mark.encode())

    def close(self) -> None:
        """Let others have it."""
        self._file.close()

    def remove(self) -> None:
        """The run is over."""
        self.path.unlink(missing_ok=True)
        self.close()


def resumable(marks: Sequence[Mark], output_bytes: int, error_bytes: int) -> Mark | None:
    """The last mark from which both files can be continued; None if there is none.

    Output that is compressed is written in blocks, so that the file may end before the last mark's
    output does: then a run goes back to the piece with which the block began.
    """
    whole = [
        mark for mark in marks if mark.flushed[1] <= output_bytes and mark.errors <= error_bytes
    ]
    if not whole:
        return None
    flushed = whole[-1].flushed
    back = [mark for mark in whole if mark.plain <= flushed[0]]
    if not back:
        return None
    last = back[-1]
    return Mark(
        last.place, last.plain, flushed, last.errors, last.rejected, last.warned, last.seconds
    )


def _differing(one: dict[str, Any], other: dict[str, Any]) -> str:
    names = [name for name in sorted({*one, *other}) if one.get(name) != other.get(name)]
    return ", ".join(f"{name} was {one.get(name)!r}, is {other.get(name)!r}" for name in names)


def _write_all(file: Any, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
