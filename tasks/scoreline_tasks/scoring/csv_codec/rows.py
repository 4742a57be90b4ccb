"""Finds the rows and fields of a chunk of CSV, as places in its bytes and without copying any.

What a row is and where its fields are, Python's `csv` module decides. All of a chunk is looked at in
numpy: which of its bytes are delimiters, quotes and line ends, and by counting quotes, which of those
stand outside of them. That is right where every quote stands where it should; rows in which one does not
are found by a walk with a regular expression, blotted out, and left to `csv_careful`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from scoreline_client.options import CsvChunk

Places = npt.NDArray[np.int32]
"""A chunk is far smaller than 2 GiB, and half the bytes are twice as fast to go through."""

_LF, _CR = 10, 13
_BLOT = b"x"


@dataclass(frozen=True, slots=True)
class RowIndex:
    """Where the rows of a chunk are. Places are of bytes, from 0; blank lines and comments are no rows."""

    starts: Places
    """(rows,) Where each row begins."""
    ends: Places
    """(rows,) Where it ends, before its line end."""
    stops: Places
    """(rows,) Behind its line end."""
    regular: npt.NDArray[np.intp]
    """The rows that have as many fields as the header, and nothing odd in them."""
    field_starts: Places
    """(regular rows, columns) Where each of their fields begins."""
    field_ends: Places
    """(regular rows, columns) Where it ends."""

    def __len__(self) -> int:
        return len(self.starts)

    def irregular(self) -> list[int]:
        """All other rows."""
        is_irregular = np.ones(len(self), dtype=bool)
        is_irregular[self.regular] = False
        found: list[int] = np.flatnonzero(is_irregular).tolist()
        return found


def index_rows(data: bytes, chunk: CsvChunk) -> RowIndex:
    """Find all rows of a chunk."""
    odd: list[int] = []
    blank: list[int] = []
    text = data
    if not _is_tidy(data, chunk) or _may_have_comments(data, chunk):
        text, odd, blank = _blot_out(data, chunk)
    return _index(text, chunk, odd=odd, blank=blank)


def is_tidy_row(raw: bytes, chunk: CsvChunk) -> bool:
    """Whether every quote of a row stands where it should."""
    return not chunk.quote or bool(
        _patterns(chunk.delimiter, chunk.quote, chunk.comment)[1].fullmatch(raw)
    )


def rows_of_places(index: RowIndex, places: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """The rows in which bytes stand, each once."""
    found = np.unique(np.searchsorted(index.starts, places, side="right") - 1)
    return found[found >= 0]


def without(index: RowIndex, rows: npt.NDArray[np.intp]) -> RowIndex:
    """The same index, with `rows` no longer regular."""
    kept = ~np.isin(index.regular, rows)
    return replace(
        index,
        regular=index.regular[kept],
        field_starts=index.field_starts[kept],
        field_ends=index.field_ends[kept],
    )


def _index(data: bytes, chunk: CsvChunk, *, odd: list[int], blank: list[int]) -> RowIndex:
    """All rows of bytes in which every quote stands where it should."""
    delimiter = ord(chunk.delimiter)
    places, kinds = _outside_quotes(data, chunk)
    breaks = np.flatnonzero(kinds != delimiter)
    ends = places[breaks]
    stops = ends + 1
    stops[(kinds[breaks] == _CR) & _is_followed_by_line_feed(data, ends)] += 1
    if len(data) and (not len(stops) or stops[-1] < len(data)):
        # The last row has no line end; it ends where the data do.
        breaks = np.append(breaks, len(places))
        last = np.array([len(data)], dtype=np.int32)
        places = np.concatenate((places, last))
        ends, stops = np.concatenate((ends, last)), np.concatenate((stops, last))
    counts = np.diff(breaks, prepend=-1)
    starts = np.concatenate((np.zeros(1, dtype=np.int32), stops[:-1]))[: len(stops)]
    is_row = starts < ends
    if blank:
        is_row &= ~np.isin(starts, blank)
    rows = np.flatnonzero(is_row)
    is_regular = counts[rows] == len(chunk.columns)
    if odd:
        is_regular &= ~np.isin(starts[rows], odd)
    regular = np.flatnonzero(is_regular)
    starts, ends, stops = starts[rows], ends[rows], stops[rows]
    field_ends = _field_ends(places, breaks[rows][regular], len(chunk.columns))
    field_starts = np.empty_like(field_ends)
    field_starts[:, 0] = starts[regular]
    field_starts[:, 1:] = field_ends[:, :-1] + 1
    return RowIndex(starts, ends, stops, regular, field_starts, field_ends)


def _field_ends(places: Places, last: npt.NDArray[np.intp], columns: int) -> Places:
    if len(places) == len(last) * columns:
        return places.reshape(-1, columns)
    found: Places = places[last[:, None] + np.arange(1 - columns, 1)]
    return found


def _is_followed_by_line_feed(data: bytes, ends: Places) -> npt.NDArray[np.bool_]:
    codes = np.frombuffer(data, np.uint8)
    return codes[np.minimum(ends + 1, len(data) - 1)] == _LF if len(data) else ends < 0


def _outside_quotes(data: bytes, chunk: CsvChunk) -> tuple[Places, npt.NDArray[np.uint8]]:
    """Where delimiters and line ends stand outside quotes, and which; `\\r\\n` counts as its `\\r`."""
    codes = np.frombuffer(data, np.uint8)
    is_special = (codes == ord(chunk.delimiter)) | (codes == _LF)
    has_return = b"\r" in data
    if has_return:
        is_special |= codes == _CR
    has_quotes = bool(chunk.quote) and chunk.quote.encode() in data
    if has_quotes:
        is_special |= codes == ord(chunk.quote)
    places = np.flatnonzero(is_special).astype(np.int32)
    kinds = codes[places]
    if has_quotes:
        is_quote = kinds == ord(chunk.quote)
        is_inside = np.cumsum(is_quote, dtype=np.uint8) & 1  # overflows at 256, which is even
        is_kept = ~is_quote & (is_inside == 0)
        places, kinds = places[is_kept], kinds[is_kept]
    if has_return:
        is_kept = (kinds != _LF) | (codes[np.maximum(places - 1, 0)] != _CR) | (places == 0)
        places, kinds = places[is_kept], kinds[is_kept]
    return places, kinds


def _is_tidy(data: bytes, chunk: CsvChunk) -> bool:
    """Whether every quote opens a field, closes one, or is one of a pair within one."""
    if not chunk.quote or chunk.quote.encode() not in data:
        return True
    codes = np.frombuffer(data, np.uint8)
    quotes = np.flatnonzero(codes == ord(chunk.quote))
    if len(quotes) % 2:
        return False
    fits = np.zeros(256, dtype=bool)
    fits[[ord(chunk.delimiter), ord(chunk.quote), _LF, _CR]] = True
    opening, closing = quotes[0::2], quotes[1::2]
    before = fits[codes[np.maximum(opening - 1, 0)]] | (opening == 0)
    after = fits[codes[np.minimum(closing + 1, len(codes) - 1)]] | (closing == len(codes) - 1)
    return bool(before.all() and after.all())


def _may_have_comments(data: bytes, chunk: CsvChunk) -> bool:
    return bool(chunk.comment) and chunk.comment.encode() in data


# Where quotes do not stand where they should


def _blot_out(data: bytes, chunk: CsvChunk) -> tuple[bytes, list[int], list[int]]:
    """The bytes with nothing special left in odd rows and comments, and where those begin."""
    row, tidy = _patterns(chunk.delimiter, chunk.quote, chunk.comment)
    quote = chunk.quote.encode()
    text = bytearray(data)
    odd: list[int] = []
    comments: list[int] = []
    for match in row.finditer(data):
        start, end = match.start(), match.start("end")
        if chunk.comment and match["comment"] is not None:
            comments.append(start)
        elif quote and data.find(quote, start, end) >= 0 and not tidy.fullmatch(data, start, end):
            odd.append(start)
        else:
            continue
        text[start:end] = _BLOT * (end - start)
    return bytes(text), odd, comments


@lru_cache(maxsize=16)
def _patterns(
    delimiter: str, quote: str, comment: str
) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """One row or comment with its line end; and a row in which every quote is where it should be."""
    comma, mark = re.escape(delimiter.encode()), re.escape(quote.encode())
    plain = rb"[^%s\r\n]*+" % comma
    field = tidy_field = plain
    if quote:
        field = rb"(?:%b(?:[^%b]++|%b%b)*+(?:%b|\Z))?+" % ((mark,) * 5) + plain
        tidy_field = rb"(?:%b(?:[^%b]++|%b%b)*+%b|[^%b%b\r\n]*+)" % (*((mark,) * 6), comma)
    row = rb"%b(?:%b%b)*+" % (field, comma, field)
    if comment:
        row = rb"(?:(?P<comment>%b[^\r\n]*+)|%b)" % (re.escape(comment.encode()), row)
    tidy = rb"%b(?:%b%b)*+" % (tidy_field, comma, tidy_field)
    return re.compile(row + rb"(?P<end>\r\n|\r|\n|\Z)"), re.compile(tidy)
