"""What the reader of a format gives to a run: pieces of the input, and output for their answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from scoreline_client.predictions import Prediction
from scoreline_client.protocol.messages import Answer, Codec


@dataclass(frozen=True, slots=True)
class Place:
    """Where in an input reading can begin."""

    offset: int
    """Plain bytes before it; rows, where the format counts those."""
    row: int
    """Number of the next row; the first is 1."""
    line: int
    """Physical line on which it begins; 0 where there are none."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows, as the body of a request."""

    body: bytes
    codec: Codec
    count: int
    start: Place
    end: Place
    done: int
    """How much of the input was read with it, in the unit of the reader's `total`."""
    options: bytes = b""
    """The request's `options`."""
    context: Any = None
    """What the reader needs to make output of the answer."""


@dataclass(frozen=True, slots=True)
class Described:
    """The version that scores a file."""

    model: str
    version: int
    needed: tuple[str, ...]
    """Names of the columns that it needs."""
    classes: tuple[Any, ...]
    """What its probabilities are about; empty if it has none."""

    @property
    def ref(self) -> str:
        """The reference that pins it."""
        return f"{self.model}@{self.version}"

    @classmethod
    def of(cls, answer: Answer) -> Described:
        """Read the answer to a request of the operation describe."""
        description = answer.description or {}
        outputs = description.get("outputs", {})
        return cls(
            answer.model,
            answer.version,
            tuple(one["name"] for one in description.get("columns", [])),
            tuple(outputs.get("classes") or ()),
        )


@dataclass(frozen=True, slots=True)
class Written:
    """What a piece's answer comes to."""

    data: bytes | memoryview
    """For the output."""
    rejected: dict[str, int]
    problems: Sequence[dict[str, Any]] = ()
    """Particulars of rejected rows: row, line, code, message, column, value."""
    warned: Sequence[dict[str, Any]] = ()


class Reader(Protocol):
    """One format of files."""

    unit: str
    """What `total` and a piece's `done` count."""
    notes: list[str]
    """What the caller should know about how the file is read."""

    @property
    def total(self) -> int | None:
        """How much there is to read; None if nobody knows."""

    def begin(self, described: Described) -> tuple[bytes, Place]:
        """See that the file can be scored; returns the output's beginning, and where rows begin.

        Raises:
            FileRefused: it cannot be scored as a whole.
        """

    def pieces(self, start: Place, piece_bytes: Callable[[], int]) -> Iterator[Piece]:
        """The rows from a place on, in pieces of about so many bytes."""

    def written(self, piece: Piece, answer: Answer) -> Written:
        """Make output of an answer."""

    def records(self, piece: Piece, answer: Answer) -> list[tuple[dict[str, Any], Prediction]]:
        """The rows with what the model says of them."""

    def complete(self, part: Any, final: Any) -> bool:
        """Make the final file out of what was written; False if that is it already."""
