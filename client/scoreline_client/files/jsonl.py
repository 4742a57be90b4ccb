"""JSON Lines: an object a line in, and the same object with the answers in it out."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

import orjson

from scoreline_client.codes import Code
from scoreline_client.errors import FileRefused
from scoreline_client.files.csv import BOM, check_not_wide
from scoreline_client.files.reader import (
    Chunk,
    ChunkOutput,
    FileReader,
    FileSizes,
    ModelInfo,
    Position,
    answer_names,
    choose_answers,
    names_read,
    other_names,
    selected,
)
from scoreline_client.files.source import Source
from scoreline_client.options import BulkOptions, RequestOptions
from scoreline_client.predictions import Prediction, RecordError
from scoreline_client.protocol.csv_grammar import MAX_ROW_BYTES
from scoreline_client.protocol.json_records import predictions_of
from scoreline_client.protocol.messages import Answer, Codec

_SHOWN = 80
_KINDS = {list: "an array", str: "text", bool: "true or false", type(None): "null"}
_FIRST_LINES = 1000
"""Lines that are searched for fields with the name of an answer."""
_MOST_LAYOUTS = 1000
"""Different lists of fields that are remembered at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonLinesChunk(Chunk):
    """Some lines of a file."""

    texts: list[bytes] = field(default_factory=list)
    """The lines, without blanks around them."""


class JsonLinesReader(FileReader[JsonLinesChunk]):
    """Reads a file with a JSON object on each line."""

    unit = "bytes"

    def __init__(self, source: Source, options: BulkOptions, sizes: FileSizes) -> None:
        self.notes: list[str] = []
        self._source = source
        self._options = options
        self._sizes = sizes
        self._mark = 0
        """Bytes of the byte order mark."""
        self._model: ModelInfo
        self._answers: dict[str, str]
        """The answers by their names on the wire, with their names in the output."""
        self._has_renamed_columns = False
        """Whether columns may have other names in the file than the model has for them."""
        self._layouts: dict[tuple[str, ...], dict[str, str]] = {}
        self._keeps_objects = options.kept is None and not options.drop and not options.rename
        """Whether the output has the objects as they are."""
        self._request = options.for_request(RequestOptions, outputs=None).encoded_options

    @property
    def media_type(self) -> str:
        """JSON Lines, which are in UTF-8."""
        return "application/x-ndjson"

    @property
    def total(self) -> int | None:
        """Stored bytes in all."""
        return self._source.size

    def begin(self, model: ModelInfo) -> tuple[bytes, Position]:
        """Check that there is a record; a JSON Lines file has no header."""
        source, options = self._source, self._options
        if options.text_encoding != "utf-8" or options.is_transcoded:
            source.decode(options.encoding)
        start = source.read(MAX_ROW_BYTES)
        check_not_wide(source.name, start)
        self._mark = len(BOM) if start.startswith(BOM) else 0
        text = start[self._mark :]
        if not text.strip() and len(start) < MAX_ROW_BYTES:
            raise FileRefused(Code.EMPTY, source.name, "the file is empty; records were expected")
        source.unread(text)
        fields: dict[str, None] = {}
        for line in text.strip().splitlines()[:_FIRST_LINES]:
            with suppress(orjson.JSONDecodeError):
                record = orjson.loads(line)
                fields |= dict.fromkeys(record) if isinstance(record, dict) else {}
        self._model = model
        self._has_renamed_columns = not set(model.known).isdisjoint(options.rename.values())
        layout = self._new_layout(tuple(fields))
        answers = choose_answers(source.name, model, options)
        self._answers = answer_names(source.name, answers, layout, layout.values(), options)
        self.notes += other_names(self._answers, options)
        return b"", Position(self._mark, 1, 1)

    def chunks(self, start: Position, chunk_bytes: Callable[[], int]) -> Iterator[JsonLinesChunk]:
        """Whole lines, as a JSON array."""
        self._source.go_to(start.offset, at=self._mark)
        position, rest = start, b""
        for block in self._source.blocks(start.offset, chunk_bytes):
            data = rest + block
            end = data.rfind(b"\n") + 1
            rest = data[end:]
            if len(rest) > MAX_ROW_BYTES:
                line = position.line + data.count(b"\n")
                message = f"line {line} is longer than {MAX_ROW_BYTES:,} bytes"
                raise FileRefused(Code.TOO_LARGE, self._source.name, message)
            position = yield from self._cut(data[:end], position)
        yield from self._cut(rest, position)

    def output(self, chunk: JsonLinesChunk, answer: Answer) -> ChunkOutput:
        """The lines, each with its answers."""
        errors = {int(index): error for index, error in answer.errors.items()}
        for index, (code, message) in chunk.unreadable.items():
            errors[index] = {"code": code, "message": message, "value": _show(chunk.texts[index])}
        columns = [self._column(name, chunk.count, answer, errors) for name in self._answers]
        names = tuple(self._answers.values())
        answers = zip(*columns, strict=True) if columns else repeat((), chunk.count)
        lines = []
        for index, (text, values) in enumerate(zip(chunk.texts, answers, strict=True)):
            record = b"{}" if index in chunk.unreadable else self._selected(text)
            added = orjson.dumps(dict(zip(names, values, strict=True)))
            members = filter(None, (record[1:-1].strip(), added[1:-1]))
            lines.append(b"{" + b",".join(members) + b"}\n")
        problems = [
            {"row": chunk.start.row + index, "line": chunk.lines[index], **errors[index]}
            for index in sorted(errors)
        ]
        rejected = Counter(str(error["code"]) for error in errors.values())
        warned = Counter(
            (str(warning["code"]), str(warning.get("column", "")))
            for warnings in answer.warnings.values()
            for warning in warnings
        )
        counts = [
            {"code": code, "column": column, "count": count}
            for (code, column), count in warned.items()
        ]
        return ChunkOutput(b"".join(lines), rejected, problems, counts)

    def rows(
        self, chunk: JsonLinesChunk, answer: Answer
    ) -> list[tuple[dict[str, Any], Prediction]]:
        """The objects, read again; empty where the line is not an object."""
        errors = {
            index: RecordError(code, message, None, None, _show(chunk.texts[index]))
            for index, (code, message) in chunk.unreadable.items()
        }
        predictions = predictions_of(answer, errors, chunk.start.row - 1)
        records = (
            {} if index in errors else orjson.loads(self._selected(text))
            for index, text in enumerate(chunk.texts)
        )
        return list(zip(records, predictions, strict=True))

    def _cut(self, data: bytes, start: Position) -> Generator[JsonLinesChunk, None, Position]:
        """Chunks of at most `most_chunk_rows`; blank lines are not rows. Returns where they end.

        Raises:
            FileRefused: an object has a field that the output adds.
        """
        offset, row, number = start.offset, start.row, start.line
        texts: list[bytes] = []
        numbers: list[int] = []
        unreadable: dict[int, tuple[str, str]] = {}

        def chunk() -> JsonLinesChunk:
            bodies = [
                b"null" if index in unreadable else self._body(text)
                for index, text in enumerate(texts)
            ]
            return JsonLinesChunk(
                body=b"[" + b",".join(bodies) + b"]",
                codec=Codec.JSON,
                options=self._request,
                count=len(texts),
                start=start,
                end=Position(offset, row, number),
                done=offset if self._source.is_stored_plain else self._source.position,
                lines=numbers,
                unreadable=unreadable,
                texts=texts,
            )

        # A line ends at a line feed alone: a carriage return before it is a blank.
        for line in io.BytesIO(data):
            if text := line.strip():
                try:
                    record = orjson.loads(text)
                except orjson.JSONDecodeError as error:
                    unreadable[len(texts)] = Code.JSON.value, f"the line is not JSON: {error}"
                else:
                    if isinstance(record, dict):
                        self._layout(tuple(record), number)
                    else:
                        kind = _KINDS.get(type(record), "a number")
                        message = f"the line is not a JSON object but {kind}"
                        unreadable[len(texts)] = Code.TYPE.value, message
                texts.append(text)
                numbers.append(number)
                row += 1
            offset += len(line)
            number += 1
            if len(texts) == self._sizes.most_chunk_rows:
                yield chunk()
                texts, numbers, unreadable = [], [], {}
                start = Position(offset, row, number)
        if texts:
            yield chunk()
        return Position(offset, row, number)

    def _layout(self, fields: tuple[str, ...], line: int = 0) -> dict[str, str]:
        """The fields of an object that the output has, with their names there, in order."""
        layout = self._layouts.get(fields)
        if layout is None:
            layout = self._new_layout(fields)
            for name in set(layout.values()).intersection(self._answers.values()):
                message = (
                    f"line {line}: {name!r} is there already, and the output adds one: rename it "
                    f"(--rename {name}=…)"
                )
                raise FileRefused(Code.DUPLICATE_COLUMN, self._source.name, message, name)
            if len(self._layouts) >= _MOST_LAYOUTS:
                self._layouts.clear()
            self._layouts[fields] = layout
        return layout

    def _new_layout(self, fields: tuple[str, ...]) -> dict[str, str]:
        """The same, not yet compared with the names of the answers."""
        names = [fields[index] for index in selected(fields, self._options)]
        return {name: self._options.rename.get(name, name) for name in names}

    def _body(self, text: bytes) -> bytes:
        """An object as a request has it: with the names that the model has for its columns, as `rename` says."""
        if not self._has_renamed_columns:
            return text
        record = json.loads(text, parse_int=orjson.Fragment, parse_float=orjson.Fragment)
        names = names_read(tuple(record), self._model, self._options)
        return orjson.dumps(dict(zip(names, record.values(), strict=True)))

    def _column(
        self, name: str, count: int, answer: Answer, errors: Mapping[int, Mapping[str, Any]]
    ) -> list[Any]:
        """An answer, by its name on the wire: a value for each row."""
        if name == "error":
            column: list[Any] = [None] * count
            for index, error in errors.items():
                column[index] = f"{error['code']}: {error['message']}"
            return column
        if name == "warnings":
            return [answer.warnings.get(str(index), []) for index in range(count)]
        model = self._model
        if name == "prediction":
            return answer.values or [None] * count
        rows: list[Any] | None = answer.values
        position = _index_of(name, model.prediction_columns)
        if position is None:
            rows, position = answer.probabilities, _index_of(name, model.probability_columns)
        if not rows or position is None:
            return [None] * count
        return [None if row is None else row[position] for row in rows]

    def _selected(self, text: bytes) -> bytes:
        """An object with the fields that the output has."""
        if self._keeps_objects:
            return text
        # Numbers keep their text: an identifier of thirty digits does not fit a float.
        record = json.loads(text, parse_int=orjson.Fragment, parse_float=orjson.Fragment)
        layout = self._layout(tuple(record))
        return orjson.dumps({new: record[old] for old, new in layout.items()})


def _index_of(name: str, names: Sequence[str]) -> int | None:
    return names.index(name) if name in names else None


def _show(text: bytes) -> str:
    escaped = ascii(text.decode("utf-8", "backslashreplace"))[1:-1]
    return escaped if len(escaped) <= _SHOWN else escaped[: _SHOWN - 3] + "..."
