"""What all formats of files have in common: chunks of the input, and the output made of their answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from scoreline_client.predictions import Prediction
from scoreline_client.protocol.messages import Answer, Codec


@dataclass(frozen=True, slots=True)
class Position:
    """A position in an input at which reading can begin."""

    offset: int
    """Plain bytes before it; rows, where the format counts those."""
    row: int
    """Number of the next row; the first is 1."""
    line: int
    """Physical line on which that row begins; 0 where the format has no lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Some rows of an input, as the body of a request."""

    body: bytes
    codec: Codec
    options: bytes = b""
    """The request's `options`."""
    count: int
    """How many rows these are."""
    start: Position
    end: Position
    done: int
    """How much of the input has been read with it, in the unit of the reader's `total`."""
    lines: Sequence[int] = ()
    """Each row's physical line, where the worker does not know it and numbers rows from 1."""
    unreadable: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    """Code and message of rows that the client could not read, by index; the worker got `null`."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The version that scores a file."""

    model: str
    version: int
    columns: Sequence[Mapping[str, Any]]
    """The columns that it needs: `name`, `type`, `nullable` of each."""
    classes: Sequence[Any]
    """The classes that its probabilities are for; empty if it has none."""

    @classmethod
    def of(cls, answer: Answer) -> ModelInfo:
        """Read the answer to a request of the operation describe."""
        description = answer.description or {}
        classes = description.get("outputs", {}).get("classes") or ()
        return cls(answer.model, answer.version, description.get("columns", ()), classes)

    @property
    def ref(self) -> str:
        """The reference that names this version."""
        return f"{self.model}@{self.version}"

    @property
    def needed(self) -> list[str]:
        """Names of the columns that it needs."""
        return [column["name"] for column in self.columns]


@dataclass(frozen=True, slots=True)
class ChunkOutput:
    """What a chunk's answer adds to the output and to the counts."""

    data: bytes | memoryview
    rejected: Mapping[str, int]
    """Numbers of rejected rows by code."""
    problems: Sequence[Mapping[str, Any]] = ()
    """Details of rejected rows: row, line, code, message, column, value."""
    warned: Sequence[Mapping[str, Any]] = ()
    """Numbers of warnings: code, column, count."""


_Chunk = TypeVar("_Chunk", bound=Chunk)


class FileReader(Protocol[_Chunk]):
    """Reads a file of one format."""

    unit: str
    """What `total` and a chunk's `done` count."""
    notes: list[str]
    """What the caller should know about how the file is read."""

    @property
    def total(self) -> int | None:
        """How much there is to read; None if that is unknown."""

    def begin(self, model: ModelInfo) -> tuple[bytes, Position]:
        """Check that a version can score the file; the output's beginning, and where rows begin.

        Raises:
            FileRefused: the file as a whole cannot be scored.
        """

    def chunks(self, start: Position, chunk_bytes: Callable[[], int]) -> Iterator[_Chunk]:
        """The rows from a position on, in chunks of about so many bytes."""

    def output(self, chunk: _Chunk, answer: Answer) -> ChunkOutput:
        """Make output of an answer."""

    def rows(self, chunk: _Chunk, answer: Answer) -> list[tuple[dict[str, Any], Prediction]]:
        """Each row, with the columns that the options choose, and its prediction."""

    def finish(self, part: Path, final: Path) -> bool:
        """Make the final file of the part that was written; False if the part is the final file."""
