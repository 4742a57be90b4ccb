"""Shared by the readers of all formats: sizes, chunks, the columns of an output, and predictions."""

from __future__ import annotations

import codecs
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from scoreline_client.codes import Code
from scoreline_client.errors import FileRefused
from scoreline_client.options import BulkOptions
from scoreline_client.predictions import Prediction, RecordError
from scoreline_client.protocol.messages import Answer, Codec
from scoreline_client.protocol.names import (
    near_names,
    prediction_column,
    probability_column,
)

DEFAULT_OUTPUTS = ("prediction", "probability", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSizes:
    """Sizes of a file's run. A run that is resumed must have those of the run that began."""

    smallest_chunk_bytes: int = 1 << 14
    largest_chunk_bytes: int = 1 << 20
    least_chunks: int = 8
    """A file is cut into so many chunks, if it is not very small, so that processes share it."""
    slow_chunk_ms: float = 250.0
    slow_chunks: int = 3
    """After so many slow chunks in a row chunks become smaller: online requests wait for the chunk that a
    process is scoring."""
    fewest_chunk_rows: int = 256
    most_chunk_rows: int = 50_000
    """Rows of a chunk of JSON Lines or Parquet; workers take at most 100,000 in a request."""
    most_table_bytes: int = 8 << 20
    """Rows of Parquet that are read at a time have so many bytes in memory at the most, as far as that is known."""
    block_bytes: int = 1 << 20
    """Compressed output consists of blocks of so many plain bytes, each readable without the others, so
    that it does not depend on where a run was interrupted."""
    sync_bytes: int = 1 << 24
    """After so many more bytes an output is brought to the disk."""
    group_rows: int = 100_000
    group_bytes: int = 32 << 20
    """A row group of Parquet output is closed when it has so many rows, or so many bytes in memory."""
    most_expansion: int = 200
    """Plain bytes that a compressed byte may become; real tables stay below 50."""
    unwatched_bytes: int = 64 << 20
    """Plain bytes up to which a file may expand as much as it likes."""


DEFAULT_SIZES = FileSizes()


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
    """The columns that it takes: `name`, `type`, `nullable` of each, and `optional` of those that may be left out."""
    classes: Sequence[Any]
    """The classes or labels that its probabilities are for; empty if it has none, or each output its own."""
    outputs: Sequence[Mapping[str, Any]] = ()
    """Its outputs: `name`, `type` and `classes` of each; empty if the worker, of an earlier release, does not
    tell."""

    @property
    def ref(self) -> str:
        """The reference that names this version."""
        return f"{self.model}@{self.version}"

    @property
    def prediction_columns(self) -> tuple[str, ...]:
        """The columns of its values, one for each output."""
        return tuple(
            prediction_column(output["name"]) for output in self.outputs or ({"name": None},)
        )

    @property
    def probability_columns(self) -> tuple[str, ...]:
        """The columns of its probabilities, in order."""
        return (
            *map(probability_column, self.classes),
            *(
                probability_column(label, output["name"])
                for output in self.outputs
                for label in output["classes"] or ()
            ),
        )

    @property
    def needed(self) -> list[str]:
        """Names of the columns that it cannot do without."""
        return [column["name"] for column in self.columns if not column.get("optional")]

    @property
    def known(self) -> list[str]:
        """Names of all columns that it takes."""
        return [column["name"] for column in self.columns]


@dataclass(frozen=True, slots=True)
class ChunkOutput:
    """The data that a chunk's answer adds to the output and to the counts."""

    data: bytes | memoryview
    rejected: Mapping[str, int]
    """Numbers of rejected rows by code."""
    problems: Sequence[Mapping[str, Any]] = ()
    """Details of rejected rows: row, line, code, message, column, value."""
    warned: Sequence[Mapping[str, Any]] = ()
    """Numbers of warnings: code, column, count."""
    report: Mapping[str, Any] | None = None
    """What the values may have meant instead; see `Doubts`."""
    longer: Sequence[int] = ()
    """Lines of the input that have more fields in the output than its header."""


_MOST_GUESSED = 20
"""Missing columns for which a similar name is looked for in the file."""
_Chunk = TypeVar("_Chunk", bound=Chunk)


class FileReader(Protocol[_Chunk]):
    """Reads a file of a format."""

    unit: str
    """The unit of `total` and of a chunk's `done`."""
    notes: list[str]
    """How the file is read, as far as the caller should know it."""

    @property
    def media_type(self) -> str:
        """What the output is, as HTTP names it; known once the header was read."""

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

    def finish(self, part: Path, final: Any) -> bool:  # noqa: ARG002 - formats that need it override it
        """Write the final file, open and empty, out of the part; False if the part is the final file."""
        return False


PARQUET_TYPE = "application/vnd.apache.parquet"


def delimited_type(delimiter: str, encoding: str) -> str:
    """The media type of delimited text, with the name that the Internet has for an encoding of Python's."""
    kind = "text/tab-separated-values" if delimiter == "\t" else "text/csv"
    name = codecs.lookup(encoding).name
    for python, registered in _CHARSETS.items():
        name = re.sub(python, registered, name)
    return f"{kind}; charset={name}"


_CHARSETS = {r"^cp(125\d)$": r"windows-\1", "^iso8859": "iso-8859", "^ascii$": "us-ascii"}


# Columns


@dataclass(frozen=True, slots=True)
class OutputColumns:
    """The columns of an output."""

    indices: tuple[int, ...] | None
    """Indices of the input's columns, in the output's order; None: all, as they are."""
    kept: tuple[str, ...]
    """The names that those columns have in the output."""
    answers: tuple[str, ...]
    """The answers, by the names that they have on the wire."""
    added: tuple[str, ...]
    """The names that the answers have in the output."""

    @property
    def names(self) -> tuple[str, ...]:
        """All names, in order."""
        return self.kept + self.added


def choose_columns(
    path: str, columns: Sequence[str], model: ModelInfo, options: BulkOptions
) -> OutputColumns:
    """The output's columns, for an input's columns and a version's answers.

    Raises:
        FileRefused: a column that an option names is not there, two columns would have the same name,
            or, with `strict`, the model does not know a column.
    """
    extra = extra_columns(names_read(columns, model, options), model)
    if options.strict and extra:
        message = f"columns that {model.ref} does not know (strict): {listing(extra)}"
        raise FileRefused(Code.EXTRA_COLUMN, path, message, extra[0])
    for option, names in (("drop", options.drop), ("keep", options.kept or ())):
        for name in names:
            if name not in columns:
                raise _no_such_name(path, name, columns, option)
    is_whole = options.kept is None and not options.drop
    indices = None if is_whole else tuple(selected(columns, options))
    chosen = columns if indices is None else [columns[index] for index in indices]
    answers = choose_answers(path, model, options)
    for name in options.rename:
        if name not in (*columns, *answers):
            raise _no_such_name(path, name, (*columns, *answers), "rename")
    kept = tuple(options.rename.get(name, name) for name in chosen)
    for name, count in Counter(kept).items():
        if name and count > 1:
            message = f"the output would have column {name!r} {count} times"
            advice = f"rename it (--rename {name}=…) or leave it out (--drop {name})"
            raise FileRefused(Code.DUPLICATE_COLUMN, path, f"{message}: {advice}", name)
    added = tuple(answer_names(path, answers, chosen, kept, options).values())
    return OutputColumns(indices, kept, answers, added)


def names_read(columns: Sequence[str], model: ModelInfo, options: BulkOptions) -> list[str]:
    """The names under which a model reads an input's columns: their own, or those of `rename`.

    A column is read under its new name if the model knows that, and the input has no column of that name itself.
    """
    taken_by_model, present = frozenset(model.known), frozenset(columns)
    return [
        new
        if (new := options.rename.get(name, name)) in taken_by_model and new not in present
        else name
        for name in columns
    ]


def selected(columns: Sequence[str], options: BulkOptions) -> list[int]:
    """Indices of the columns that the output has, in its order; names that are not there are ignored."""
    if options.kept is not None:
        return [columns.index(name) for name in options.kept if name in columns]
    return [index for index, name in enumerate(columns) if name not in options.drop]


def choose_answers(path: str, model: ModelInfo, options: BulkOptions) -> tuple[str, ...]:
    """The answers that the options name, by their names on the wire, in order.

    Raises:
        FileRefused: the version has no such answer.
    """
    groups = {"prediction": model.prediction_columns, "probability": model.probability_columns}
    available = (*groups["prediction"], *groups["probability"], "error", "warnings")
    chosen: list[str] = []
    for name in options.outputs or DEFAULT_OUTPUTS:
        if name in groups:
            chosen += groups[name]
        elif name in available:
            chosen.append(name)
        else:
            raise _no_such_name(path, name, available, "outputs")
    return tuple(dict.fromkeys(chosen))


def requested(
    answers: Sequence[str], model: ModelInfo, options: BulkOptions
) -> Sequence[str] | None:
    """The answers that a request names; None where a worker answers with these by default."""
    is_usual = options.outputs is None and len(model.prediction_columns) == 1
    return None if is_usual else list(answers)


def answer_names(
    path: str,
    answers: Iterable[str],
    columns: Iterable[str],
    kept: Iterable[str],
    options: BulkOptions,
) -> dict[str, str]:
    """The answers' names in the output, where the input's `columns` are called `kept`.

    Where a column of the input has an answer's name, `rename` applies to the column. If the column keeps that name,
    the answer gets another: `prediction_2`.

    Raises:
        FileRefused: an answer was given a name that is there already.
    """
    input_columns, used, names = frozenset(columns), set(kept), dict[str, str]()
    for answer in answers:
        name = answer if answer in input_columns else options.rename.get(answer, answer)
        if name in used and name != answer:
            message = f"the output would have column {name!r} twice: give {answer!r} another name"
            raise FileRefused(Code.DUPLICATE_COLUMN, path, message, name)
        number = 2
        while name in used:
            name, number = f"{answer}_{number}", number + 1
        used.add(name)
        names[answer] = name
    return names


def other_names(answers: Mapping[str, str], options: BulkOptions) -> list[str]:
    """A sentence for each answer that has another name, since a column of the input has its own."""
    return [
        f"the file has a column {answer!r} of its own: the answer is in {name!r}"
        for answer, name in answers.items()
        if name not in (answer, options.rename.get(answer))
    ]


def extra_columns(columns: Sequence[str], model: ModelInfo) -> list[str]:
    """The columns that a model does not take."""
    taken_by_model = set(model.known)
    return [name for name in columns if name not in taken_by_model]


def check_no_duplicates(path: str, columns: Sequence[str]) -> None:
    """Check that every name is there once; several columns may have no name.

    Raises:
        FileRefused: a name is there twice; the message has the columns' numbers.
    """
    for name, count in Counter(columns).items():
        if name and count > 1:
            *numbers, last = [
                str(number) for number, column in enumerate(columns, start=1) if column == name
            ]
            message = f"duplicate column {name!r} (columns {', '.join(numbers)} and {last})"
            raise FileRefused(Code.DUPLICATE_COLUMN, path, message, name)


def missing_columns(missing: Sequence[str], columns: Sequence[str], needed: Sequence[str]) -> str:
    """A sentence about columns that are not there, with similar names of the file that the model does not need."""
    message = f"column{'s' if len(missing) > 1 else ''} missing: {', '.join(map(repr, missing))}"
    candidates = [name for name in columns if name not in set(needed)]
    renames, questions, has_unmatched = dict[str, str](), list[str](), len(missing) > _MOST_GUESSED
    for name in missing[:_MOST_GUESSED]:
        near, is_certain = near_names(name, candidates)
        if is_certain:
            candidates.remove(near[0])
            renames[near[0]] = name
        if len(near) > 1:
            question = f"{name!r} may be {' or '.join(map(repr, near))}"
            # A command to copy would be a guess.
            questions.append(
                question if is_certain else f"{question}: say which with --rename OLD={name}"
            )
        has_unmatched = has_unmatched or not near
    sentences = [message, *questions]
    if renames:
        options = " ".join(
            f"--rename {shlex.quote(f'{near}={name}')}" for near, name in renames.items()
        )
        sentences.append(f"did you mean {', '.join(map(repr, renames))}? Read so with {options}")
    if has_unmatched:
        sentences.append(f"the file has {listing(columns)}")
    return "; ".join(sentences)


def listing(columns: Sequence[str]) -> str:
    """A list of names for a message: the first twelve, cut short."""
    listed = ", ".join(repr(name[:40]) for name in columns[:12])
    return listed + (", …" if len(columns) > 12 else "")


def predictions_from(
    rows: Iterable[Mapping[str, Any]],
    model: ModelInfo,
    problems: Iterable[Mapping[str, Any]],
    first_row: int,
) -> list[Prediction]:
    """Predictions from the answer's columns of each row, and the details of rejected rows."""
    columns = model.prediction_columns
    by_row = {problem["row"]: problem for problem in problems}
    predictions = []
    for number, row in enumerate(rows, start=first_row):
        problem = by_row.get(number)
        value: Any = None
        probabilities: dict[Any, Any] = {}
        error = None
        if problem is None:
            values = [row[name] for name in columns]
            value = values[0] if len(values) == 1 else values
            probabilities = {label: row[probability_column(label)] for label in model.classes}
            for output in model.outputs:
                name = output["name"]
                by_class = {
                    label: row[probability_column(label, name)] for label in output["classes"] or ()
                }
                probabilities |= {name: by_class} if by_class else {}
        else:
            details = (problem.get("column"), problem.get("value"))
            error = RecordError(problem["code"], problem["message"], number - 1, *details)
        predictions.append(Prediction(value, probabilities, model.model, model.version, error))
    return predictions


def _no_such_name(path: str, name: str, columns: Sequence[str], option: str) -> FileRefused:
    near, _ = near_names(name, columns)
    advice = (
        f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are {listing(columns)}"
    )
    message = f"there is no column {name!r} to {option}; {advice}"
    if option == "outputs":
        message = f"the model does not answer with {name!r}; {advice}"
    return FileRefused(Code.MISSING_COLUMN, path, message, name)
