"""CSV and TSV: the header is read here, the text is cut at row ends, and workers do everything else.

The client never looks at a value. It reads the header, cuts the bytes after it into chunks of whole rows,
and gets the same rows back with the answers appended. Rows are those of Python's `csv` module.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scoreline_client.codes import Code
from scoreline_client.errors import FileRefused
from scoreline_client.files.reader import (
    DEFAULT_SIZES,
    Chunk,
    ChunkOutput,
    FileReader,
    ModelInfo,
    OutputColumns,
    Position,
    check_no_duplicates,
    choose_columns,
    delimited_type,
    extra_columns,
    listing,
    missing_columns,
    names_read,
    other_names,
    predictions_from,
    requested,
)
from scoreline_client.files.source import Source
from scoreline_client.options import MOST_COLUMNS, BulkOptions, CsvChunk
from scoreline_client.predictions import Prediction
from scoreline_client.protocol.csv_grammar import (
    MAX_ROW_BYTES,
    Grammar,
    count_lines,
    quote_field,
    spreadsheet_safe,
)
from scoreline_client.protocol.messages import Answer, Codec

BOM = b"\xef\xbb\xbf"
DELIMITERS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a vertical bar"}

_WIDE = {
    b"\xff\xfe\0\0": ("UTF-32", "utf-32"),
    b"\0\0\xfe\xff": ("UTF-32", "utf-32"),
    b"\xff\xfe": ("UTF-16 (little-endian)", "utf-16"),
    b"\xfe\xff": ("UTF-16 (big-endian)", "utf-16"),
}
_SEPARATOR = re.compile(rb'"?sep=([,;|\t^~:])"?(?:\1| )*(?:\r\n|\r|\n)', re.IGNORECASE)
"""Excel's own first line, which says how columns are separated."""
_MOST_MISSES = 16
"""Lines of a block that are compared with the header because they hold a column's name."""
_COUNTS = re.compile(r"expected ([0-9]+) fields, got ([0-9]+)")
_INTEGER = re.compile(r"-?[0-9]+")
_NUMBER = re.compile(r"\s*[+-]?([0-9]+[.,]?[0-9]*|[.,][0-9]+)([eE][+-]?[0-9]+)?\s*")


class CsvReader(FileReader[Chunk]):
    """Reads a file of delimited text."""

    unit = "bytes"

    def __init__(
        self,
        source: Source,
        options: BulkOptions,
        *,
        wants_problems: bool,
        line_by_line: bool = True,
    ) -> None:
        """`line_by_line`: the output has the input's lines as they are, also those that do not have as
        many fields as the header; otherwise it has the fields of the header's columns."""
        self.notes: list[str] = []
        self._source = source
        self._options = options
        self._wants_problems = wants_problems
        self._line_by_line = line_by_line
        self._model: ModelInfo
        self._head: CsvChunk
        self.header: Header
        self.columns: OutputColumns

    @property
    def media_type(self) -> str:
        """Delimited text in the input's encoding."""
        return delimited_type(self.header.delimiter, self.header.encoding)

    @property
    def total(self) -> int | None:
        """Stored bytes in all."""
        return self._source.size

    def begin(self, model: ModelInfo) -> tuple[bytes, Position]:
        """Read the header, and make the output's."""
        options, source, path = self._options, self._source, self._source.name
        if options.is_transcoded:
            source.decode(options.encoding)
        start = source.read(MAX_ROW_BYTES)
        header = read_header(
            path,
            start,
            needed=model.needed,
            whole=len(start) < MAX_ROW_BYTES,
            delimiter=options.delimiter,
            comment=options.comment,
            encoding=options.text_encoding,
            rename=options.rename,
        )
        source.unread(start[header.size :])
        read_names = names_read(header.columns, model, options)
        check_header(path, replace(header, columns=tuple(read_names)), model.needed)
        chosen = choose_columns(path, header.columns, model, options)
        self._model, self.header, self.columns = model, header, chosen
        if options.delimiter is None and header.delimiter != ",":
            separator = DELIMITERS.get(header.delimiter, repr(header.delimiter))
            self.notes.append(f"columns are separated by {separator}")
        if options.is_transcoded:
            self.notes.append(f"the output is UTF-8 (the input is {options.encoding})")
        unnamed = [str(number) for number, name in enumerate(header.columns, start=1) if not name]
        if unnamed:
            self.notes.append(f"columns without a name: {', '.join(unnamed[:6])}")
        if extra := [name for name in extra_columns(read_names, model) if name]:
            self.notes.append(f"the model does not use {listing(extra)}")
        self.notes += other_names(dict(zip(chosen.answers, chosen.added, strict=True)), options)
        present = frozenset(read_names)
        if left_out := [name for name in model.known if name not in present]:
            self.notes.append(
                f"not in the file, which the model can do without: {listing(left_out)}"
            )
        indices = chosen.indices
        if indices is None and not self._line_by_line:
            indices = tuple(range(len(header.columns)))
        self._head = options.for_request(
            CsvChunk,
            columns=read_names,
            first_row=1,
            first_line=1,
            delimiter=header.delimiter,
            encoding=header.encoding,
            columns_out=None if indices is None else list(indices),
            outputs=requested(chosen.answers, model, options),
        )
        names = chosen.names
        if options.excel_safe:
            names = tuple(map(spreadsheet_safe, names))
        is_extended = chosen.indices is None and names == (*header.columns, *chosen.added)
        header_line = header.with_columns(chosen.added) if is_extended else header.of_columns(names)
        return header_line, Position(header.size, 1, header.lines + 1)

    def chunks(self, start: Position, chunk_bytes: Callable[[], int]) -> Iterator[Chunk]:
        """Chunks of whole rows."""
        source, origin = self._source, self.header.size
        source.go_to(start.offset, at=origin)
        grammar = Grammar.of(self.header.delimiter, self._options.comment)
        blocks = source.blocks(start.offset, chunk_bytes, origin=origin)
        repeated = RepeatedHeader(source.name, self.header, grammar, self.notes)
        for rows in cut_rows(source.name, blocks, grammar, start, clean=repeated.blanked):
            head = replace(
                self._head,
                first_row=rows.start.row,
                first_line=rows.start.line,
                problems=rows.count if self._wants_problems else 0,
            )
            yield Chunk(
                body=head.encode(rows.data),
                codec=Codec.CSV,
                count=rows.count,
                start=rows.start,
                end=rows.end,
                # Rows that were only read ahead are not done, which can only be told for plain bytes.
                done=rows.end.offset if source.is_stored_plain else source.position,
            )

    def output(self, chunk: Chunk, answer: Answer) -> ChunkOutput:  # noqa: ARG002 - a reader's signature
        """The worker's lines are the output."""
        longer = []
        if self._head.columns_out is None and Code.FIELD_COUNT in answer.rejected:
            # With chosen columns, a field too many is in none of them.
            longer = [
                problem["line"]
                for problem in answer.problems
                if problem["code"] == Code.FIELD_COUNT
                and (counts := _COUNTS.match(problem["message"]))
                and int(counts[2]) > int(counts[1])
            ]
        return ChunkOutput(
            answer.body, answer.rejected, answer.problems, answer.warned, answer.report, longer
        )

    def rows(self, chunk: Chunk, answer: Answer) -> list[tuple[dict[str, Any], Prediction]]:
        """The fields of the worker's lines, as text."""
        text = bytes(answer.body).decode(self.header.encoding, "surrogateescape")
        # The csv module's limit is the whole process's (131,072), and too low for permitted rows.
        csv.field_size_limit(max(csv.field_size_limit(), MAX_ROW_BYTES))
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=self.header.delimiter)
        rows = [fields for fields in lines if fields]
        kept, answers = self.columns.kept, self.columns.answers
        readers = answer_readers(self._model)
        answered = (
            {
                name: readers.get(name, str)(text)
                for name, text in zip(answers, fields[len(kept) :], strict=True)
            }
            for fields in rows
        )
        predictions = predictions_from(answered, self._model, answer.problems, chunk.start.row)
        records = (dict(zip(kept, fields, strict=False)) for fields in rows)
        return list(zip(records, predictions, strict=True))


def answer_readers(model: ModelInfo) -> dict[str, Callable[[str], Any]]:
    """A function for each answer, by its name, that makes a value of its text."""

    def number(text: str) -> Any:
        if not text:  # the row was rejected
            return None
        return int(text) if _INTEGER.fullmatch(text) else float(text.replace(",", "."))

    def guessed(text: str) -> Any:
        """The class or the number that the text stands for, where the worker does not tell the type."""
        try:
            return classes[text] if text in classes else float(text)
        except ValueError:
            return text

    classes = {
        str(label).lower() if isinstance(label, bool) else str(label): label
        for label in model.classes
    }
    type_readers: dict[str, Callable[[str], Any]] = {
        "number": number,
        "boolean": lambda text: text == "true" if text else None,
        "text": str,
    }
    readers: dict[str, Callable[[str], Any]] = dict.fromkeys(model.probability_columns, number)
    for name, output in zip(model.prediction_columns, model.outputs or [{}], strict=True):
        readers[name] = type_readers.get(output.get("type", ""), guessed)
    return readers


# Rows


@dataclass(frozen=True, slots=True)
class CutRows:
    """Whole rows of a file, byte for byte."""

    data: bytes
    """The rows with their line ends, and any blank lines between them."""
    count: int
    """How many rows these are, without blank lines and comments."""
    start: Position
    end: Position


def cut_rows(
    path: str,
    blocks: Iterable[bytes],
    grammar: Grammar,
    start: Position,
    *,
    max_row_bytes: int = MAX_ROW_BYTES,
    most_rows: int = DEFAULT_SIZES.most_chunk_rows,
    clean: Callable[[bytes, int], bytes] = lambda data, line: data,  # noqa: ARG005 - its signature
) -> Iterator[CutRows]:
    """Cut a file's blocks at row ends: for each block, the whole rows that end in it, in parts of `most_rows`.

    A block must be longer than a row for rows to come out of it; until then it is kept. `clean` gets rows and
    the number of their first line, and returns them with as many lines.

    Raises:
        FileRefused: a row is longer than the limit, or a quote is never closed.
    """
    rest, end = b"", start

    def advance(data: bytes, tidy: bool) -> Iterator[CutRows]:
        nonlocal end
        begin = end
        rows = clean(data, begin.line)
        count, lines = grammar.count(rows, tidy)
        if count > most_rows:
            size, is_tidy = grammar.last_row_end(data[: len(data) // 2])
            if size:
                yield from advance(data[:size], is_tidy)
                yield from advance(data[size:], tidy)
                return
        end = Position(begin.offset + len(data), begin.row + count, begin.line + lines)
        if count:
            yield CutRows(rows, count, begin, end)

    def unclosed(quote: int, where: str) -> FileRefused:
        message = (
            f'the quote (") that opens a field on line {end.line + count_lines(rest[:quote])} is not '
            f"closed before {where}; row {end.row} begins on line {end.line}"
        )
        return FileRefused(Code.QUOTE, path, message)

    for block in blocks:
        data = rest + block
        size, tidy = grammar.last_row_end(data)
        rest = data[size:]
        complete_rows = list(advance(data[:size], tidy))
        if len(rest) > max_row_bytes:
            if (quote := grammar.unclosed(rest)) is not None:
                raise unclosed(quote, f"{max_row_bytes:,} bytes")
            message = (
                f"row {end.row} (line {end.line}) is longer than {max_row_bytes:,} bytes; is this a "
                "CSV file?"
            )
            raise FileRefused(Code.TOO_LARGE, path, message)
        yield from complete_rows
    if (quote := grammar.unclosed(rest)) is not None:
        raise unclosed(quote, "the file's end")
    yield from advance(rest, tidy=False)


# The header


@dataclass(frozen=True, slots=True)
class Header:
    """A file's first row."""

    preamble: bytes
    """The bytes before it that the output has too: a byte order mark, Excel's line `sep=;`."""
    raw: bytes
    """Its bytes without the line end."""
    line_end: bytes
    """The line end of the file's own style."""
    columns: tuple[str, ...]
    """The names, decoded, in order."""
    size: int
    """Bytes up to the first byte of data; blank lines before the header count."""
    lines: int
    """Physical lines up to there."""
    delimiter: str
    encoding: str

    def with_columns(self, names: Sequence[str]) -> bytes:
        """The header line of the output: these bytes as they are, and more columns."""
        added = "".join(self.delimiter + quote_field(name, self.delimiter) for name in names)
        return self.preamble + self.raw + added.encode(self.encoding) + (self.line_end or b"\n")

    def of_columns(self, names: Sequence[str]) -> bytes:
        """A header line with other columns, otherwise in this style."""
        line = self.delimiter.join(quote_field(name, self.delimiter) for name in names)
        return self.preamble + line.encode(self.encoding) + (self.line_end or b"\n")


def read_header(
    path: str,
    start: bytes,
    *,
    needed: Sequence[str],
    whole: bool,
    delimiter: str | None = None,
    comment: str = "",
    encoding: str = "utf-8",
    rename: Mapping[str, str] | None = None,
) -> Header:
    """Read the header from a file's first bytes; `whole` says that these are the whole file.

    Without a `delimiter`, it is the one that Excel's line `sep=;` names, or one with which all `needed` columns
    are there, by these names or by those that `rename` has for them, or else a comma.

    Raises:
        FileRefused: there is no header, or it cannot be read; the message says why.
    """
    check_not_wide(path, start)
    skipped = len(BOM) if start.startswith(BOM) else 0
    if (separator := _SEPARATOR.match(start, skipped)) is not None:
        skipped = separator.end()
        delimiter = delimiter or separator[1].decode()
    row = next(Grammar.of(delimiter or ",", comment).rows(start[skipped:]), None)
    if row is None:
        raise FileRefused(Code.EMPTY, path, "the file is empty; a header was expected")
    if delimiter is None:
        delimiter = detect_delimiter(row[0].decode(encoding, "replace"), needed, rename or {})
        row = next(Grammar.of(delimiter, comment).rows(start[skipped:]))
    size = skipped + row.end()
    if Grammar.is_unclosed(row):
        raise FileRefused(Code.QUOTE, path, 'the header has a quote (") that is not closed')
    if size == len(start) and not whole and row["end"] != b"\n":
        raise FileRefused(Code.TOO_LARGE, path, f"the header is longer than {len(start):,} bytes")
    raw = start[skipped + row.start() : skipped + row.start("end")]
    try:
        columns = tuple(next(csv.reader([raw.decode(encoding)], delimiter=delimiter, strict=True)))
    except UnicodeDecodeError as error:
        message = (
            f"the header is not {encoding}: byte {raw[error.start]:#04x} at {error.start}. If it is "
            "in another encoding, name it: --encoding latin-1, for instance"
        )
        raise FileRefused(Code.ENCODING, path, message) from error
    except csv.Error as error:
        raise FileRefused(Code.QUOTE, path, f"the header cannot be read: {error}") from error
    if any("\0" in name for name in columns):
        raise FileRefused(Code.CONTROL_CHAR, path, "the header holds a NUL byte; is this text?")
    if len(columns) > MOST_COLUMNS:
        message = f"the header has {len(columns):,} columns; {MOST_COLUMNS:,} are the most"
        raise FileRefused(Code.TOO_LARGE, path, message)
    return Header(
        preamble=start[:skipped],
        raw=raw,
        line_end=row["end"],
        columns=pandas_names(columns, needed),
        size=size,
        lines=count_lines(start[:size]),
        delimiter=delimiter,
        encoding=encoding,
    )


def check_not_wide(path: str, start: bytes) -> None:
    """Refuse text in an encoding of two or four bytes a character, unless it was named.

    Raises:
        FileRefused: it has such an encoding's byte order mark; the message has the flag to give.
    """
    for mark, (name, option) in _WIDE.items():
        if start.startswith(mark):
            message = f"the file is {name}, not UTF-8: give --encoding {option}"
            raise FileRefused(Code.ENCODING, path, message)


def detect_delimiter(line: str, needed: Sequence[str], rename: Mapping[str, str]) -> str:
    """The delimiter with which a header has all the needed columns, or else a comma."""
    required = set(needed)
    for delimiter in DELIMITERS:
        names = pandas_names(_split(line, delimiter), needed)
        if required and required <= {*names, *(rename.get(name, name) for name in names)}:
            return delimiter
    return ","


def pandas_names(columns: Sequence[str], needed: Sequence[str]) -> tuple[str, ...]:
    """The columns' names, with those that pandas makes of them where a model was trained on these.

    `pandas.read_csv` calls a column without a name `Unnamed: 0` by its index, and the second `a` `a.1`.
    """
    missing, counts, names = set(needed).difference(columns), Counter[str](), []
    for index, name in enumerate(columns):
        pandas_name = f"{name}.{counts[name]}" if name else f"Unnamed: {index}"
        counts[name] += 1
        names.append(pandas_name if pandas_name in missing else name)
    return tuple(names)


def check_header(path: str, header: Header, needed: Sequence[str]) -> None:
    """Check that the columns that a model needs are there, and that no name is there twice.

    Raises:
        FileRefused: they are not, or the first line is not a header; the message has the remedy.
    """
    columns = header.columns
    present = frozenset(columns)
    missing = [name for name in needed if name not in present]
    if columns[0].startswith("#") and missing:
        message = f"the first line looks like a comment: {columns[0][:40]!r}; give --comment '#'"
        raise FileRefused(Code.HEADER, path, message)
    text = header.raw.decode(header.encoding)
    folded = {name.strip().casefold() for name in needed}

    def matches(delimiter: str) -> int:
        return len(folded & {name.strip().casefold() for name in _split(text, delimiter)})

    if missing or not needed:
        actual = ""
        if all(_NUMBER.fullmatch(name) or not name for name in columns):
            actual = "numbers"
        elif needed and not any(map(matches, DELIMITERS)):
            fields = max((_split(text, mark) for mark in DELIMITERS), key=len)
            if any(_NUMBER.fullmatch(field) for field in fields):
                actual = "what looks like a row"
        if actual:
            message = f"a header was expected on the first line, got {actual}: {listing(columns)}"
            if needed:
                message += f". Put a line with the columns' names before it: {listing(needed)}"
            raise FileRefused(Code.HEADER, path, message)
    check_no_duplicates(path, columns)
    if missing:
        message = missing_columns(missing, columns, needed)
        best = max(DELIMITERS, key=matches)
        if matches(best) > matches(header.delimiter):
            current = DELIMITERS.get(header.delimiter, repr(header.delimiter))
            option = "'\\t'" if best == "\t" else f"'{best}'"
            message = (
                f"{message.partition(';')[0]}; the columns are separated by {DELIMITERS[best]}, it "
                f"seems, and not by {current}: give --delimiter {option}"
            )
        elif len(columns) == 1 and any(mark in text for mark in DELIMITERS):
            # No other delimiter yields a column of the model; still, the one column has to be cut first.
            mark = max(DELIMITERS, key=text.count)
            fields = _split(text, mark)
            option = "'\\t'" if mark == "\t" else f"'{mark}'"
            message = (
                f"{missing_columns(missing, fields, needed)}; its columns are separated by {DELIMITERS[mark]}, it "
                f"seems: give --delimiter {option}, too"
            )
        raise FileRefused(Code.MISSING_COLUMN, path, message, missing[0])


@dataclass(frozen=True, slots=True)
class RepeatedHeader:
    """Finds lines that repeat the header, as files have that were put together."""

    path: str
    header: Header
    grammar: Grammar
    notes: list[str]
    """Gets a sentence about the first such line."""

    def blanked(self, data: bytes, line: int) -> bytes:
        """Rows with blank lines, which are no rows, in place of repeated headers; `line` is the first one's number.

        Raises:
            FileRefused: a line has the header's names in another order; what follows would be scored wrongly.
        """
        header = self.header
        # With one column, a value of it may well be its name.
        if len(header.columns) < 2 or not self.may_be_in(data):
            return data
        names, pieces, copied = sorted(self._fields(header.raw)), list[bytes](), 0
        number, counted = line, 0
        for row in self.grammar.rows(data):
            text = data[row.start() : row.start("end")].removeprefix(BOM)
            if len(text) != len(header.raw) or sorted(fields := self._fields(text)) != names:
                continue
            number += count_lines(data[counted : row.start()])
            counted = row.start()
            if fields != self._fields(header.raw):
                message = (
                    f"line {number:,} is a header with the columns in another order: files were put together "
                    "that do not fit. Score them one by one"
                )
                raise FileRefused(Code.HEADER, self.path, message)
            note = "lines that repeat the header are left out (files were put together, it seems)"
            if not any(note in earlier_note for earlier_note in self.notes):
                self.notes.append(f"{note}; the first is line {number:,}")
            # As many line ends as it has: a name may hold one.
            pieces += data[copied : row.start()], row["end"] * (1 + count_lines(text))
            copied = row.end()
        return b"".join((*pieces, data[copied:])) if pieces else data

    def may_be_in(self, data: bytes) -> bool:
        """Whether a line of these rows has the bytes of the header, in any order.

        It looks for the header's longest name, which most rows do not hold; where many do, for the whole header.
        """
        raw = self.header.raw
        # Rows of numbers have no letters, and a single byte is found ten times as fast as a name.
        if any(bytes((byte,)) not in data for byte in set(raw)):
            return False
        names = [name.encode(self.header.encoding) for name in self._fields(raw)]
        longest = max((name for name in names if name in raw), key=len, default=raw)
        for needle in (longest, raw):
            offset = data.find(needle)
            for _ in range(_MOST_MISSES):
                if offset < 0:
                    return False
                first = max(0, offset - len(raw) - len(BOM) - 1)
                begin = max(first, *(data.rfind(end, first, offset) + 1 for end in (b"\n", b"\r")))
                text = data[begin : begin + len(BOM) + len(raw) + 1].removeprefix(BOM)
                line = re.split(b"[\r\n]", text, maxsplit=1)[0]
                if len(line) == len(raw) and sorted(line) == sorted(raw):
                    return True
                offset = data.find(needle, offset + 1)
        return False

    def _fields(self, text: bytes) -> list[str]:
        line = text.decode(self.header.encoding, "replace")
        return next(csv.reader([line], delimiter=self.header.delimiter), [])


def _split(line: str, delimiter: str) -> list[str]:
    return [name.strip("\r\n").strip('"') for name in line.split(delimiter)]
