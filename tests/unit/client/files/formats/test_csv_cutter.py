"""A file is cut where Python's csv module says that a row ends, however its bytes arrive."""

import csv
import io
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreline_client.codes import Code
from scoreline_client.errors import FileRefused
from scoreline_client.files.formats.csv import CutRows, cut_rows
from scoreline_client.files.formats.reader import Position
from scoreline_client.protocol.csv_grammar import Grammar

TEXTS = st.text(alphabet='ab1,,""\n\n\r', max_size=40)
BLOCKS = st.lists(st.integers(1, 9), min_size=1, max_size=8)


def _cut(data: bytes, *sizes: int, max_row_bytes: int = 1000) -> list[CutRows]:
    """Cut blocks of these sizes, over and over."""

    def blocks() -> Iterator[bytes]:
        start = 0
        for size in cycle(sizes):
            if start >= len(data):
                return
            yield data[start : start + size]
            start += size

    grammar = Grammar.of(",")
    begin = Position(0, 1, 2)
    return list(cut_rows("in.csv", blocks(), grammar, begin, max_row_bytes=max_row_bytes))


def _rows(text: str) -> list[list[str]]:
    return [row for row in csv.reader(io.StringIO(text, newline="")) if row]


def _is_closed(text: str) -> bool:
    return Grammar.of(",").unclosed(text.encode()) is None


@given(TEXTS.filter(_is_closed), BLOCKS)
def test_the_rows_of_the_chunks_are_those_of_the_csv_module(text: str, sizes: list[int]) -> None:
    chunks = _cut(text.encode(), *sizes)
    assert [row for chunk in chunks for row in _rows(chunk.data.decode())] == _rows(text)


@given(TEXTS.filter(_is_closed), BLOCKS)
def test_every_chunk_counts_the_rows_that_it_holds(text: str, sizes: list[int]) -> None:
    for chunk in _cut(text.encode(), *sizes):
        assert chunk.count == len(_rows(chunk.data.decode()))


@given(TEXTS.filter(_is_closed), BLOCKS)
def test_every_chunk_knows_where_it_stands(text: str, sizes: list[int]) -> None:
    row = 1
    for chunk in _cut(text.encode(), *sizes):
        before = io.StringIO(text[: chunk.start.offset], newline="").readlines()
        assert text.encode()[chunk.start.offset :].startswith(chunk.data)
        assert (chunk.start.row, chunk.start.line) == (row, 2 + len(before))
        row += chunk.count


@given(TEXTS, BLOCKS)
def test_a_quote_that_is_never_closed_is_found_however_the_file_is_read(
    text: str, sizes: list[int]
) -> None:
    opened = not _is_closed(text)
    refusal = pytest.raises(FileRefused, match="is not closed") if opened else nullcontext()
    with refusal:
        _cut(text.encode(), *sizes)


def test_a_quoted_line_end_does_not_end_the_row() -> None:
    chunks = _cut(b'1,"a\nb"\n2,c\n', 6, 100)
    assert [chunk.data for chunk in chunks] == [b'1,"a\nb"\n2,c\n']


def test_a_quote_inside_a_field_opens_nothing() -> None:
    assert [chunk.count for chunk in _cut(b'5" pipe\n6" pipe\n', 100)] == [2]


def test_the_last_row_needs_no_line_end() -> None:
    assert [chunk.data for chunk in _cut(b"1\n2", 100)] == [b"1\n", b"2"]


def test_windows_line_ends_are_not_cut_in_two() -> None:
    assert [chunk.data for chunk in _cut(b"1\r\n2\r\n", 2, 100)] == [b"1\r\n2\r\n"]


def test_a_file_with_carriage_returns_alone_has_rows() -> None:
    assert sum(chunk.count for chunk in _cut(b"1\r2\r3\r", 3)) == 3


def test_blank_lines_are_no_rows_but_count_as_lines() -> None:
    chunks = _cut(b"1\n\n\n2\n", 4)
    assert [(chunk.start.row, chunk.start.line, chunk.count) for chunk in chunks] == [
        (1, 2, 1),
        (2, 5, 1),
    ]


def test_an_unclosed_quote_is_refused_with_the_line_that_opens_it() -> None:
    with pytest.raises(FileRefused, match="on line 3 is not closed before the file's end"):
        _cut(b'1,a\n2,"b\n3,c\n', 100)


def test_an_unclosed_quote_does_not_swallow_the_rest_of_a_large_file() -> None:
    with pytest.raises(FileRefused, match="on line 3 is not closed before 50 bytes"):
        _cut(b'1,a\n2,"b\n' + b"3,c\n" * 1000, 20, max_row_bytes=50)


def test_a_row_over_the_limit_without_a_quote_is_refused_as_too_long() -> None:
    with pytest.raises(FileRefused, match=r"row 2 \(line 3\) is longer than 50 bytes") as caught:
        _cut(b"1\n" + b"x" * 100, 20, max_row_bytes=50)
    assert caught.value.code == Code.TOO_LARGE
