"""JSON Lines: one object a line in, the same object with the answers in it out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from scoreline_client.codes import Code
from scoreline_client.errors import FileRefused
from scoreline_client.files.columns import choose_answers
from scoreline_client.files.formats.csv_header import BOM, check_not_wide
from scoreline_client.files.formats.pieces import Described, Piece, Place, Written
from scoreline_client.files.source import Source
from scoreline_client.options import BulkOptions, RequestOptions
from scoreline_client.predictions import Prediction, RecordError
from scoreline_client.protocol.csv_grammar import MAX_ROW_BYTES
from scoreline_client.protocol.json_records import Piece as RequestPiece
from scoreline_client.protocol.json_records import predictions_of
from scoreline_client.protocol.messages import Answer, Codec

MOST_RECORDS = 50_000
"""Records of one piece; workers take no more than 100,000 in a request."""
_SHOWN = 80


@dataclass(slots=True)
class _Lines:
    """The lines of a piece: their text, where they stand, and what is wrong with some of them."""

    texts: list[bytes] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    problems: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Code and message by place."""


class JsonLinesReader:
    """Reads a file of JSON objects, one a line."""

    unit = "bytes"

    def __init__(self, source: Source, options: BulkOptions) -> None:
        self.notes: list[str] = []
        self._source = source
        self._options = options
        self._mark = 0
        self._at = Place(0, 1, 1)
        self._answers: dict[str, str]
        self._keep: tuple[str, ...] | None
        asked = RequestOptions(
            unseen=options.unseen, out_of_range=options.out_of_range, coerce=options.coerce
        )
        self._asked = asked.encode_options()

    @property
    def total(self) -> int | None:
        """Stored bytes in all."""
        return self._source.size

    def begin(self, described: Described) -> tuple[bytes, Place]:
        """See that there is anything; a JSON Lines file has no header."""
        source, options = self._source, self._options
        if options.text_encoding != "utf-8" or options.is_transcoded:
            source.decode(options.encoding)
        start = source.read(MAX_ROW_BYTES)
        check_not_wide(source.name, start)
        self._mark = len(BOM) if start.startswith(BOM) else 0
        if not start[self._mark :].strip() and len(start) < MAX_ROW_BYTES:
            raise FileRefused(Code.EMPTY, source.name, "the file is empty; records were expected")
        source.unread(start[self._mark :])
        here = _names_of_first(start[self._mark :])
        answers = choose_answers(source.name, described, options)
        self._answers = {
            name: name if name in here else options.rename.get(name, name) for name in answers
        }
        self._keep = self._kept()
        return b"", Place(self._mark, 1, 1)

    def pieces(self, start: Place, piece_bytes: Callable[[], int]) -> Iterator[Piece]:
        """Whole lines, as a JSON array."""
        self._source.go_to(start.offset, at=self._mark)
        self._at, rest = start, b""
        for block in self._source.blocks(start.offset, piece_bytes):
            data = rest + block
            end = data.rfind(b"\n") + 1
            rest = data[end:]
            if len(rest) > MAX_ROW_BYTES:
                message = f"line {self._at.line} is longer than {MAX_ROW_BYTES:,} bytes"
                raise FileRefused(Code.TOO_LARGE, self._source.name, message)
            yield from self._cut(data[:end])
        yield from self._cut(rest)

    def written(self, piece: Piece, answer: Answer) -> Written:
        """The lines, each with its answers."""
        lines: _Lines = piece.context
        errors = {int(place): one for place, one in answer.errors.items()}
        for place, (code, message) in lines.problems.items():
            errors[place] = {"code": code, "message": message, "value": _shown(lines.texts[place])}
        columns = self._columns(piece.count, answer, errors)
        out = [
            self._line(text, place in lines.problems, answers)
            for place, (text, answers) in enumerate(
                zip(lines.texts, zip(*columns.values(), strict=True), strict=True)
            )
        ]
        problems = [
            {"row": piece.start.row + place, "line": lines.numbers[place], **errors[place]}
            for place in sorted(errors)
        ]
        rejected = Counter(str(one["code"]) for one in errors.values())
        return Written(b"".join(out), dict(rejected), problems, _warned(answer.warnings))

    def records(self, piece: Piece, answer: Answer) -> list[tuple[dict[str, Any], Prediction]]:
        """The objects, read again; none where the line is none."""
        lines: _Lines = piece.context
        errors = {
            place: RecordError(code, message, None, None, _shown(lines.texts[place]))
            for place, (code, message) in lines.problems.items()
        }
        said = predictions_of(answer, RequestPiece(b"", piece.count, errors), piece.start.row - 1)
        records = (
            {} if place in errors else orjson.loads(self._selected(text))
            for place, text in enumerate(lines.texts)
        )
        return list(zip(records, said, strict=True))

    def complete(self, part: Any, final: Any) -> bool:  # noqa: ARG002 - a reader's signature
        """The lines are the file already."""
        return False

    # In

    def _cut(self, data: bytes) -> Iterator[Piece]:
        """Pieces of at most MOST_RECORDS; blank lines are no rows."""
        lines, start = _Lines(), self._at
        for line in _lines_of(data):
            if text := line.strip():
                self._check(text, len(lines.texts), self._at.line, lines)
                lines.texts.append(text)
                lines.numbers.append(self._at.line)
            at = self._at
            self._at = Place(at.offset + len(line), at.row + bool(text), at.line + 1)
            if len(lines.texts) == MOST_RECORDS:
                yield self._piece(lines, start, self._at)
                lines, start = _Lines(), self._at
        if lines.texts:
            yield self._piece(lines, start, self._at)

    def _check(self, text: bytes, place: int, number: int, lines: _Lines) -> None:
        try:
            record = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            lines.problems[place] = (Code.JSON.value, f"the line is not JSON: {error}")
            return
        if not isinstance(record, dict):
            message = f"the line is no JSON object but {_kind(record)}"
            lines.problems[place] = (Code.TYPE.value, message)
            return
        names = record.keys() if self._keep is None else self._keep
        rename, drop = self._options.rename, self._options.drop
        kept = {rename.get(name, name) for name in names if name in record and name not in drop}
        for name in kept.intersection(self._answers.values()):
            message = (
                f"line {number}: {name!r} is there already, and the output adds one: rename it "
                f"(--rename {name}=…)"
            )
            raise FileRefused(Code.DUPLICATE_COLUMN, self._source.name, message, name)

    def _piece(self, lines: _Lines, start: Place, end: Place) -> Piece:
        bodies = [
            b"null" if place in lines.problems else text for place, text in enumerate(lines.texts)
        ]
        plain = self._source.is_stored_plain
        return Piece(
            body=b"[" + b",".join(bodies) + b"]",
            codec=Codec.JSON,
            count=len(lines.texts),
            start=start,
            end=end,
            done=end.offset if plain else self._source.position,
            options=self._asked,
            context=lines,
        )

    # Out

    def _kept(self) -> tuple[str, ...] | None:
        options = self._options
        if options.only_predictions:
            return ()
        if options.keep is None and options.id is None:
            return None
        return tuple(dict.fromkeys([*([options.id] if options.id else []), *(options.keep or ())]))

    def _columns(
        self, count: int, answer: Answer, errors: Mapping[int, Mapping[str, Any]]
    ) -> dict[str, list[Any]]:
        """The answers by the names that they have in the output, one value a row."""
        columns: dict[str, list[Any]] = {}
        for name, called in self._answers.items():
            if name == "error":
                told = {at: f"{one['code']}: {one['message']}" for at, one in errors.items()}
                columns[called] = [told.get(place) for place in range(count)]
            elif name == "warnings":
                columns[called] = [answer.warnings.get(str(place), []) for place in range(count)]
            elif name == "prediction":
                columns[called] = answer.values or [None] * count
            else:
                columns[called] = _shares(name, count, answer)
        if not columns:
            columns[""] = [None] * count
        return columns

    def _line(self, text: bytes, is_bad: bool, answers: tuple[Any, ...]) -> bytes:
        names = self._answers.values()
        added = orjson.dumps(dict(zip(names, answers, strict=False))) if names else b"{}"
        kept = b"{}" if is_bad else self._selected(text)
        inner = kept[1:-1].strip()
        both = [one for one in (inner, added[1:-1]) if one]
        return b"{" + b",".join(both) + b"}\n"

    def _selected(self, text: bytes) -> bytes:
        options = self._options
        if self._keep is None and not options.drop and not options.rename:
            return text
        # Numbers stay the text that they are: an identifier of thirty digits is none that fits.
        record = json.loads(text, parse_int=_as_it_is, parse_float=_as_it_is)
        names = record.keys() if self._keep is None else self._keep
        chosen = {
            options.rename.get(name, name): record[name]
            for name in names
            if name in record and name not in options.drop
        }
        return orjson.dumps(chosen)


def _names_of_first(start: bytes) -> set[str]:
    """The fields of the first record, as far as there is one."""
    try:
        record = orjson.loads(start.strip().partition(b"\n")[0])
    except orjson.JSONDecodeError:
        return set()
    return set(record) if isinstance(record, dict) else set()


def _as_it_is(number: str) -> orjson.Fragment:
    return orjson.Fragment(number)


def _shares(name: str, count: int, answer: Answer) -> list[Any]:
    labels = [f"probability_{label}" for label in answer.classes or ()]
    if answer.probabilities is None or name not in labels:
        return [None] * count
    place = labels.index(name)
    return [None if share is None else share[place] for share in answer.probabilities]


def _lines_of(data: bytes) -> list[bytes]:
    """Lines end at a line feed alone: a carriage return before it is a blank."""
    if b"\r" not in data:
        return data.splitlines(keepends=True)
    *lines, last = data.split(b"\n")
    return [line + b"\n" for line in lines] + ([last] if last else [])


def _warned(warnings: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    counts = Counter(
        (str(one["code"]), str(one.get("column", ""))) for row in warnings.values() for one in row
    )
    return [
        {"code": code, "column": column, "count": count} for (code, column), count in counts.items()
    ]


def _kind(value: Any) -> str:
    names = {list: "an array", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _shown(text: bytes) -> str:
    shown = ascii(text.decode("utf-8", "backslashreplace"))[1:-1]
    return shown if len(shown) <= _SHOWN else shown[: _SHOWN - 3] + "..."
