"""A chunk's fields as columns of text, whatever its encoding."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scoreline_client.options import CsvChunk
from scoreline_client.protocol.messages import WireError
from scoreline_tasks.scoring.csv_codec.rows import Places, RowIndex

_PAIRS = (b"\x81\x40", b"\xa4\x40", b"\xb0\xa1", b"\xa4\xa2")
"""One character each in the usual encodings that have two bytes for some characters."""


@dataclass(frozen=True, slots=True)
class ChunkText:
    """A chunk's bytes as UTF-8."""

    data: bytes
    moved: Places | None
    """Where in `data` each place of the chunk went; None if nothing moved."""

    def slices(self, starts: Places, ends: Places) -> Any:
        """The text between places that follow each other, as strings."""
        if self.moved is not None:
            starts, ends = self.moved[starts], self.moved[ends]
        return slices_of(self.data, starts, ends)


def slices_of(data: bytes | memoryview, starts: Places, ends: Places) -> Any:
    """Arrow strings between places of bytes; each slice begins where the one before ended, or later.

    Arrow takes the bytes as they lie there, once as what is wanted and once as what is between, and
    copies only the former.
    """
    count = len(starts)
    if count == 0:
        return pa.array([], pa.string())
    offsets = np.empty(2 * count + 1, dtype=np.int32)
    offsets[0:-1:2] = starts
    offsets[1:-1:2] = ends
    offsets[-1] = ends[-1]
    both = pa.StringArray.from_buffers(2 * count, pa.py_buffer(offsets), pa.py_buffer(data))
    return both.take(pa.array(np.arange(0, 2 * count, 2)))


def text_of(data: bytes, encoding: str) -> ChunkText:
    """A chunk's bytes as UTF-8; what cannot be decoded is in rows that nobody reads.

    Raises:
        WireError: the encoding is not one of those in which a byte is a character.
    """
    if is_utf8(encoding) or data.isascii():
        return ChunkText(data, None)
    page = _code_page(encoding)
    moved = np.zeros(len(data) + 1, dtype=np.int32)
    np.cumsum(page.widths[np.frombuffer(data, np.uint8)], out=moved[1:])
    return ChunkText(data.decode(encoding, "replace").encode(), moved)


def undecodable(data: bytes, encoding: str) -> npt.NDArray[np.intp]:
    """Places that no text can hold: what is not in the encoding, once in a row at least; and NUL.

    Raises:
        WireError: as for `text_of`.
    """
    codes = np.frombuffer(data, np.uint8)
    found = [np.flatnonzero(codes == 0)] if b"\0" in data else []
    if not data.isascii() or not is_utf8(encoding):
        if is_utf8(encoding):
            found.append(np.array(_invalid_utf8(data), dtype=np.intp))
        else:
            found.append(np.flatnonzero(_code_page(encoding).is_undefined[codes]))
    return np.concatenate(found) if found else np.array([], dtype=np.intp)


def column_texts(text: ChunkText, index: RowIndex, columns: Sequence[int], chunk: CsvChunk) -> Any:
    """Fields of the regular rows as strings without quotes: row by row, those of `columns`, which
    are in ascending order."""
    starts = index.field_starts.take(columns, axis=1).ravel()
    ends = index.field_ends.take(columns, axis=1).ravel()
    quote = chunk.quote.encode()
    if not quote or quote not in text.data:
        return text.slices(starts, ends)
    codes = np.frombuffer(text.data, np.uint8)
    first = text.moved[starts] if text.moved is not None else starts
    is_quoted = (codes[np.minimum(first, len(codes) - 1)] == quote[0]) & (starts < ends)
    texts = text.slices(starts + is_quoted, ends - is_quoted)
    if is_quoted.any() and pc.any(pc.match_substring(texts, chunk.quote * 2)).as_py():
        # In tidy rows these are nowhere but in quoted fields.
        texts = pc.replace_substring(texts, chunk.quote * 2, chunk.quote)
    return texts


def with_careful(
    texts: Any, regular: npt.NDArray[np.intp], careful: Sequence[tuple[int, str]]
) -> Any:
    """A column's fields in the regular rows and in others, in the order of the rows."""
    if not careful:
        return texts
    rows = np.concatenate([regular, [row for row, _ in careful]])
    both = pa.concat_arrays([texts, pa.array([text for _, text in careful], pa.string())])
    return both.take(pa.array(np.argsort(rows)))


def encoded_field(text: str, chunk: CsvChunk) -> bytes:
    """A field in quotes where it must be, in the chunk's encoding."""
    quote = chunk.quote or '"'
    if any(one in text for one in (chunk.delimiter, quote, "\n", "\r")):
        text = quote + text.replace(quote, quote * 2) + quote
    if is_utf8(chunk.encoding):
        return text.encode("utf-8", "surrogateescape")
    try:
        return text.encode(chunk.encoding, "surrogateescape")
    except UnicodeEncodeError:
        return text.encode(chunk.encoding, "backslashreplace")


def _invalid_utf8(data: bytes) -> list[int]:
    """One place in each row that is not UTF-8, at least; looking goes on behind the line end."""
    view = memoryview(data)
    found: list[int] = []
    start = 0
    while start < len(data):
        try:
            codecs.utf_8_decode(view[start:], "strict", True)
            break
        except UnicodeDecodeError as error:
            found.append(start + error.start)
            start += error.start + 1
            while start < len(data) and data[start] & 0xC0 == 0x80:
                start += 1
    return found


@dataclass(frozen=True, slots=True)
class _CodePage:
    widths: Places
    """(256,) Bytes of each character in UTF-8."""
    is_undefined: npt.NDArray[np.bool_]


@lru_cache(maxsize=32)
def is_utf8(encoding: str) -> bool:
    """Whether an encoding is UTF-8 or a part of it.

    Raises:
        WireError: there is no such encoding.
    """
    try:
        return codecs.lookup(encoding).name == "utf-8"
    except LookupError:
        raise WireError(f"there is no encoding {encoding!r}") from None


@lru_cache(maxsize=32)
def _code_page(encoding: str) -> _CodePage:
    try:
        characters = [bytes([code]).decode(encoding, "replace") for code in range(256)]
        pairs = [len(pair.decode(encoding, "replace")) for pair in _PAIRS]
    except LookupError:
        raise WireError(f"{encoding!r} is no encoding of text") from None
    is_ascii = "".join(characters[:128]) == bytes(range(128)).decode()
    is_one_byte = set(map(len, characters)) == {1} and set(pairs) == {2}
    if not (is_ascii and is_one_byte) or encoding.startswith("utf"):
        raise WireError(f"{encoding!r} has not one byte for each character; send UTF-8 instead")
    return _CodePage(
        np.array([len(one.encode()) for one in characters]),
        np.array([one == "\ufffd" for one in characters]),
    )
