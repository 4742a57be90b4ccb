"""Reads a CSV file's header and decides whether the file can be scored at all."""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from scoreline_client.codes import Code
from scoreline_client.csv_cutter import Grammar, count_lines
from scoreline_client.errors import FileRefused

BOM = b"\xef\xbb\xbf"

_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_DELIMITERS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a vertical bar"}
_NUMBER = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*")


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

    def with_columns(self, names: Sequence[str], delimiter: str) -> bytes:
        """The header line of the output: these bytes as they are, and more columns."""
        added = "".join(delimiter + quoted(name, delimiter) for name in names)
        return self.raw + added.encode() + (self.line_end or b"\n")


def read_header(path: str, start: bytes, *, delimiter: str, whole: bool) -> Header:
    """Read the header from a file's first bytes; `whole` says that these are all there are.

    Raises:
        FileRefused: there is no header, or it cannot be read; the message says why.
    """
    if start.startswith(_UTF16):
        raise FileRefused(
            Code.ENCODING, path, "the file is UTF-16; convert it: iconv -f UTF-16 -t UTF-8"
        )
    skipped = len(BOM) if start.startswith(BOM) else 0
    row = next(Grammar.of(delimiter).rows(start[skipped:]), None)
    if row is None:
        raise FileRefused(Code.EMPTY, path, "the file is empty; a header was expected")
    size = skipped + row.end()
    if row["unclosed"] is not None or row["unclosed_later"] is not None:
        raise FileRefused(Code.QUOTE, path, 'the header has a quote (") that is not closed')
    if size == len(start) and not whole and row["end"] != b"\n":
        raise FileRefused(Code.TOO_LARGE, path, f"the header is longer than {len(start):,} bytes")
    raw = start[skipped + row.start() : skipped + row.start("end")]
    return Header(
        raw=start[:skipped] + raw,
        line_end=row["end"],
        columns=_names(path, raw, delimiter),
        size=size,
        lines=count_lines(start[:size]),
    )


def _names(path: str, raw: bytes, delimiter: str) -> tuple[str, ...]:
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        message = f"the header is not UTF-8: byte {raw[error.start]:#04x} at {error.start}"
        raise FileRefused(Code.ENCODING, path, message) from error
    if "\0" in text:
        raise FileRefused(Code.CONTROL_CHAR, path, "the header holds a NUL byte; is this text?")
    try:
        return tuple(next(csv.reader([text], delimiter=delimiter, strict=True)))
    except csv.Error as error:
        raise FileRefused(Code.QUOTE, path, f"the header cannot be read: {error}") from error


def check_header(
    path: str, header: Header, needed: Sequence[str], added: Sequence[str], delimiter: str
) -> None:
    """See that the columns that a model needs are there once, and that none will be there twice.

    Raises:
        FileRefused: they are not, or the header is none; the message says what to do.
    """
    columns = header.columns
    if all(_NUMBER.fullmatch(name) or not name for name in columns):
        message = f"a header was expected on the first line, got numbers: {_listed(columns)}"
        raise FileRefused(Code.HEADER, path, message)
    for name in columns:
        places = [str(place) for place, one in enumerate(columns, start=1) if one == name]
        if name and len(places) > 1:
            message = f"column {name!r} is there {len(places)} times: columns {', '.join(places)}"
            raise FileRefused(Code.DUPLICATE_COLUMN, path, message, name)
        if name in added:
            message = f"column {name!r} is there already, and the output adds one: rename it"
            raise FileRefused(Code.DUPLICATE_COLUMN, path, message, name)
    missing = [name for name in needed if name not in columns]
    if missing:
        message = _missing(header, missing, needed, delimiter)
        raise FileRefused(Code.MISSING_COLUMN, path, message, missing[0])


def _missing(header: Header, missing: Sequence[str], needed: Sequence[str], delimiter: str) -> str:
    listed = ", ".join(map(repr, missing))
    message = f"column{'s' if len(missing) > 1 else ''} missing: {listed}"
    other = _other_delimiter(header, needed, delimiter)
    if other is not None:
        return (
            f"{message}; the columns are separated by {_DELIMITERS[other]}, it seems, and "
            f"not by {_DELIMITERS[delimiter]}: convert the file"
        )
    near = nearest(missing[0], header.columns)
    if near is not None:
        return f"{message}; did you mean {near!r}?"
    return f"{message}; the file has {_listed(header.columns)}"


def nearest(name: str, names: Sequence[str]) -> str | None:
    """The one of `names` that was probably meant: alike but for case and spaces, or close to it."""
    plain = {one.strip().casefold(): one for one in names}
    found = difflib.get_close_matches(name.strip().casefold(), plain, n=1)
    return plain[found[0]] if found else None


def _other_delimiter(header: Header, needed: Sequence[str], delimiter: str) -> str | None:
    """The delimiter with which more of the needed columns would be there."""
    text = header.raw.removeprefix(BOM).decode()

    def found(one: str) -> int:
        return len(set(needed) & {name.strip().strip('"') for name in text.split(one)})

    best = max(_DELIMITERS, key=found)
    return best if found(best) > found(delimiter) else None


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name[:40]) for name in names[:12])
    return shown + (", …" if len(names) > 12 else "")


def quoted(text: str, delimiter: str) -> str:
    """A field as CSV has it: in quotes where it must be."""
    if any(one in text for one in (delimiter, '"', "\n", "\r")):
        return '"' + text.replace('"', '""') + '"'
    return text
