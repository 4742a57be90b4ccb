"""Takes the danger out of text that a spreadsheet would run as a formula (CWE-1236)."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scoreline_client.options import CsvChunk
from scoreline_tasks.scoring.csv_codec.careful import CarefulRow
from scoreline_tasks.scoring.csv_codec.rows import Places, RowIndex
from scoreline_tasks.scoring.csv_codec.source import ChunkRows
from scoreline_tasks.scoring.csv_codec.text import slices_of
from scoreline_tasks.scoring.text_values import number_pattern

_BEGINNINGS = "=+-@\t\r\n"
_MARK = "'"


def is_formula(text: str, chunk: CsvChunk) -> bool:
    """Whether a spreadsheet would take a field for a formula that is no number."""
    if not text.startswith(tuple(_BEGINNINGS)):
        return False
    return not re.match(number_pattern(chunk.decimal, chunk.thousands), text)


def without_formulas(rows: ChunkRows) -> ChunkRows:
    """The same rows with a `'` before every field that a spreadsheet would run."""
    careful = {row: _without_formulas(one, rows.chunk) for row, one in rows.careful.items()}
    places = _formulas(rows)
    if not len(places):
        return replace(rows, careful=careful)
    codes = np.insert(np.frombuffer(rows.data, np.uint8), places, ord(_MARK))
    return replace(rows, data=codes.tobytes(), index=_moved(rows.index, places), careful=careful)


def _without_formulas(row: CarefulRow, chunk: CsvChunk) -> CarefulRow:
    if not any(is_formula(one, chunk) for one in row.fields):
        return row
    fields = [_MARK + one if is_formula(one, chunk) else one for one in row.fields]
    return replace(row, fields=fields, is_unclosed=False, is_rewritten=True)


def _formulas(rows: ChunkRows) -> Places:
    """Where in the bytes the text of such fields begins, in the regular rows."""
    index, codes = rows.index, np.frombuffer(rows.data, np.uint8)
    starts, ends = index.field_starts, index.field_ends
    if rows.chunk.quote:
        is_quoted = (codes[np.minimum(starts, len(codes) - 1)] == ord(rows.chunk.quote)) & (
            starts < ends
        )
        starts, ends = starts + is_quoted, ends - is_quoted
    begins = np.isin(np.arange(256), [ord(one) for one in _BEGINNINGS])
    found = begins[codes[np.minimum(starts, len(codes) - 1)]] & (starts < ends)
    return starts[found][~_are_numbers(rows, starts[found], ends[found])]


def _are_numbers(rows: ChunkRows, starts: Places, ends: Places) -> npt.NDArray[np.bool_]:
    texts = slices_of(rows.data, starts, ends).view(pa.binary())
    pattern = number_pattern(rows.chunk.decimal, rows.chunk.thousands).replace("$", r"\z")
    return np.asarray(pc.match_substring_regex(texts, pattern), dtype=bool)


def _moved(index: RowIndex, places: Places) -> RowIndex:
    """Where everything is after a byte was put in at each of `places`."""

    def moved(old: Places) -> Places:
        return old + np.searchsorted(places, old).astype(np.int32)

    return RowIndex(
        moved(index.starts),
        moved(index.ends),
        moved(index.stops),
        index.regular,
        moved(index.field_starts),
        moved(index.field_ends),
    )
