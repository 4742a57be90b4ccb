"""Reads a CSV file's header and decides whether the file can be scored at all."""

from __future__ import annotations

import csv
import difflib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from scoreline_client.codes import Code
from scoreline_client.errors import FileRefused
from scoreline_client.protocol.csv_grammar import Grammar, count_lines, quote_field

BOM = b"\xef\xbb\xbf"
MAX_COLUMNS = 20_000
"""A wider header is taken for something else than a table."""
DELIMITERS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a vertical bar"}

_WIDE = {
    b"\xff\xfe\0\0": ("UTF-32", "utf-32"),
    b"\0\0\xfe\xff": ("UTF-32", "utf-32"),
    b"\xff\xfe": ("UTF-16 (little-endian)", "utf-16"),
    b"\xfe\xff": ("UTF-16 (big-endian)", "utf-16"),
}
_NUMBER = re.compile(r"\s*[+-]?([0-9]+[.,]?[0-9]*|[.,][0-9]+)([eE][+-]?[0-9]+)?\s*")


@dataclass(frozen=True, slots=True)
class Header:
    """A file's first row."""

    raw: bytes
    """Its bytes without the line end, with a byte order mark if there is one."""
    line_end: bytes
    """What ends the line: the file's own style."""
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
        return self.raw + added.encode(self.encoding) + (self.line_end or b"\n")

    def of_columns(self, names: Sequence[str]) -> bytes:
        """A header line with other columns, otherwise in this one's style."""
        mark = BOM if self.raw.startswith(BOM) else b""
        line = self.delimiter.join(quote_field(name, self.delimiter) for name in names)
        return mark + line.encode(self.encoding) + (self.line_end or b"\n")


def read_header(
    path: str,
    start: bytes,
    *,
    needed: Sequence[str],
    whole: bool,
    delimiter: str | None = None,
    comment: str = "",
    encoding: str = "utf-8",
) -> Header:
    """Read the header from a file's first bytes; `whole` says that these are all there are.

    Without a `delimiter` it is the one with which all of the `needed` columns are found; if there is
    none such, it is a comma.

    Raises:
        FileRefused: there is no header, or it cannot be read; the message says why.
    """
    check_not_wide(path, start)
    skipped = len(BOM) if start.startswith(BOM) else 0
    row = next(Grammar.of(delimiter or ",", comment).rows(start[skipped:]), None)
    if row is None:
        raise FileRefused(Code.EMPTY, path, "the file is empty; a header was expected")
    if delimiter is None:
        line = row[0].decode(encoding, "replace")
        delimiter = detect_delimiter(line, needed)
        row = next(Grammar.of(delimiter, comment).rows(start[skipped:]))
    size = skipped + row.end()
    if Grammar.is_unclosed(row):
        raise FileRefused(Code.QUOTE, path, 'the header has a quote (") that is not closed')
    if size == len(start) and not whole and row["end"] != b"\n":
        raise FileRefused(Code.TOO_LARGE, path, f"the header is longer than {len(start):,} bytes")
    raw = start[skipped + row.start() : skipped + row.start("end")]
    return Header(
        raw=start[:skipped] + raw,
        line_end=row["end"],
        columns=_names(path, raw, delimiter, encoding),
        size=size,
        lines=count_lines(start[:size]),
        delimiter=delimiter,
        encoding=encoding,
    )


def check_not_wide(path: str, start: bytes) -> None:
    """Refuse text in an encoding that must be named, because no row can be seen in it.

    Raises:
        FileRefused: the byte order mark of one is there; the message has the flag to give.
    """
    for mark, (name, option) in _WIDE.items():
        if start.startswith(mark):
            message = f"the file is {name}, not UTF-8: give --encoding {option}"
            raise FileRefused(Code.ENCODING, path, message)


def detect_delimiter(line: str, needed: Sequence[str]) -> str:
    """The delimiter with which a header has all the needed columns; a comma if there is none such."""
    wanted = set(needed)
    found = (one for one in DELIMITERS if wanted and wanted <= _split(line, one))
    return next(found, ",")


def _names(path: str, raw: bytes, delimiter: str, encoding: str) -> tuple[str, ...]:
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        message = (
            f"the header is not {encoding}: byte {raw[error.start]:#04x} at {error.start}. If it is "
            "in another encoding, name it: --encoding latin-1, for instance"
        )
        raise FileRefused(Code.ENCODING, path, message) from error
    if "\0" in text:
        raise FileRefused(Code.CONTROL_CHAR, path, "the header holds a NUL byte; is this text?")
    try:
        names = tuple(next(csv.reader([text], delimiter=delimiter, strict=True)))
    except csv.Error as error:
        raise FileRefused(Code.QUOTE, path, f"the header cannot be read: {error}") from error
    if len(names) > MAX_COLUMNS:
        message = f"the header has {len(names):,} columns; {MAX_COLUMNS:,} are the most"
        raise FileRefused(Code.TOO_LARGE, path, message)
    return names


def check_header(path: str, header: Header, needed: Sequence[str]) -> None:
    """See that the columns that a model needs are there, and that no name is there twice.

    Raises:
        FileRefused: they are not, or the header is none; the message says what to do.
    """
    columns = header.columns
    if columns[0].startswith("#") and any(name not in columns for name in needed):
        message = f"the first line looks like a comment: {columns[0][:40]!r}; give --comment '#'"
        raise FileRefused(Code.HEADER, path, message)
    if all(_NUMBER.fullmatch(name) or not name for name in columns):
        message = f"a header was expected on the first line, got numbers: {_listed(columns)}"
        raise FileRefused(Code.HEADER, path, message)
    check_no_duplicates(path, columns)
    missing = [name for name in needed if name not in columns]
    if missing:
        raise FileRefused(Code.MISSING_COLUMN, path, _missing(header, missing, needed), missing[0])


def check_no_duplicates(path: str, columns: Sequence[str]) -> None:
    """See that no name is there twice; columns without a name may be.

    Raises:
        FileRefused: one is; the message has the places.
    """
    for name, count in Counter(columns).items():
        if name and count > 1:
            places = ", ".join(
                str(place) for place, one in enumerate(columns, start=1) if one == name
            )
            message = f"column {name!r} is there {count} times: columns {places}"
            raise FileRefused(Code.DUPLICATE_COLUMN, path, message, name)


def missing_columns(missing: Sequence[str], columns: Sequence[str]) -> str:
    """A sentence about columns that are not there, and the ones that may have been meant."""
    listed = ", ".join(map(repr, missing))
    message = f"column{'s' if len(missing) > 1 else ''} missing: {listed}"
    near = nearest(missing[0], columns)
    if near is not None:
        return f"{message}; did you mean {near!r}?"
    return f"{message}; the file has {_listed(columns)}"


def _missing(header: Header, missing: Sequence[str], needed: Sequence[str]) -> str:
    other = _other_delimiter(header, needed)
    if other is None:
        return missing_columns(missing, header.columns)
    option = "'\\t'" if other == "\t" else f"'{other}'"
    return (
        f"{missing_columns(missing, header.columns).partition(';')[0]}; the columns are separated by "
        f"{DELIMITERS[other]}, it seems, and not by {_called(header.delimiter)}: "
        f"give --delimiter {option}"
    )


def nearest(name: str, names: Sequence[str]) -> str | None:
    """The one of `names` that was probably meant: alike but for case and spaces, or close to it."""
    plain = {one.strip().casefold(): one for one in names}
    found = difflib.get_close_matches(name.strip().casefold(), plain, n=1)
    return plain[found[0]] if found else None


def _other_delimiter(header: Header, needed: Sequence[str]) -> str | None:
    """The delimiter with which more of the needed columns would be there."""
    text = header.raw.removeprefix(BOM).decode(header.encoding)
    wanted = {name.strip().casefold() for name in needed}

    def found(one: str) -> int:
        return len(wanted & {name.strip().casefold() for name in _split(text, one)})

    best = max(DELIMITERS, key=found)
    return best if found(best) > found(header.delimiter) else None


def _split(line: str, delimiter: str) -> set[str]:
    return {name.strip("\r\n").strip('"') for name in line.split(delimiter)}


def _called(delimiter: str) -> str:
    return DELIMITERS.get(delimiter, repr(delimiter))


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name[:40]) for name in names[:12])
    return shown + (", …" if len(names) > 12 else "")
