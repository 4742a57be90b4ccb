"""A CSV file is cut where Python's csv module says that a row ends, and refused by its header if it must be."""

import csv
import io
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreline_client.codes import Code
from scoreline_client.errors import FileRefused
from scoreline_client.files.csv import (
    BOM,
    CutRows,
    Header,
    RepeatedHeader,
    check_header,
    cut_rows,
    read_header,
)
from scoreline_client.files.reader import Position
from scoreline_client.files.run import BulkProgress
from scoreline_client.protocol.csv_grammar import Grammar
from tests.support.bulk import SMALL, StubTransport, run

TEXTS = st.text(alphabet='ab1,,""\n\n\r', max_size=40)
BLOCKS = st.lists(st.integers(1, 9), min_size=1, max_size=8)


# Rows


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


# The header


def _read(start: bytes, *needed: str, whole: bool = True, **options: str) -> Header:
    return read_header("in.csv", start, needed=needed, whole=whole, **options)


def _check(start: bytes, *needed: str, **options: str) -> None:
    check_header("in.csv", _read(start, *needed, **options), needed)


def test_names_are_decoded_and_quotes_resolved() -> None:
    assert _read('größe,"a ""b"", c"\n1,2\n'.encode()).columns == ("größe", 'a "b", c')


def test_data_begins_behind_a_header_of_several_lines() -> None:
    header = _read(b'\n"a\nb",c\r\n1,2\r\n')
    assert (header.columns, header.size, header.lines) == (("a\nb", "c"), 10, 3)


def test_a_byte_order_mark_is_no_part_of_the_first_name() -> None:
    header = _read(b"\xef\xbb\xbfage,bmi\n")
    assert header.columns == ("age", "bmi")
    assert header.size == 11


def test_the_output_has_the_header_byte_for_byte_and_its_line_end() -> None:
    header = _read(b'\xef\xbb\xbf"age",bmi\r\n1,2\r\n')
    line = header.with_columns(["prediction", "probability_a,b"])
    assert line == b'\xef\xbb\xbf"age",bmi,prediction,"probability_a,b"\r\n'


def test_a_file_of_a_header_alone_may_lack_its_line_end() -> None:
    assert _read(b"age,bmi").with_columns(["error"]) == b"age,bmi,error\n"


@pytest.mark.parametrize("start", [b"", b"\n\r\n\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(start: bytes) -> None:
    with pytest.raises(FileRefused, match="the file is empty") as caught:
        _read(start)
    assert caught.value.code == Code.EMPTY


@pytest.mark.parametrize(
    ("start", "code"),
    [
        ("age,bmi\n".encode("utf-16"), Code.ENCODING),
        (b"gr\xf6\xdfe,b\n", Code.ENCODING),
        (b"a\0,b\n", Code.CONTROL_CHAR),
        (b'"a,b\n1,2\n', Code.QUOTE),
        (b'"a"b,c\n', Code.QUOTE),
    ],
)
def test_a_header_that_cannot_be_read_is_refused(start: bytes, code: Code) -> None:
    with pytest.raises(FileRefused) as caught:
        _read(start)
    assert caught.value.code == code


def test_a_header_that_does_not_end_is_refused() -> None:
    with pytest.raises(FileRefused, match="longer than 200 bytes"):
        _read(b"x" * 200, whole=False)


def test_numbers_where_the_header_should_be_are_noticed() -> None:
    with pytest.raises(FileRefused, match=r"got numbers: '6', '148', '33\.6'") as caught:
        _check(b"6,148,33.6\n", "age")
    assert caught.value.code == Code.HEADER


def test_a_column_that_is_there_twice_is_refused_with_its_places() -> None:
    with pytest.raises(FileRefused, match="columns 1 and 3") as caught:
        _check(b"age,bmi,age\n", "age")
    assert (caught.value.code, caught.value.column) == (Code.DUPLICATE_COLUMN, "age")


def test_columns_without_a_name_may_be_there_more_than_once() -> None:
    _check(b"age,,\n", "age")


def test_further_columns_and_another_order_are_fine() -> None:
    _check(b"id,bmi,age\n", "age", "bmi")


def test_a_missing_column_is_named_with_the_one_that_was_meant() -> None:
    with pytest.raises(FileRefused, match="missing: 'age'; did you mean ' Age '") as caught:
        _check(b"bmi, Age \n", "age", "bmi")
    assert (caught.value.code, caught.value.column) == (Code.MISSING_COLUMN, "age")


def test_a_missing_column_unlike_any_other_lists_what_is_there() -> None:
    with pytest.raises(FileRefused, match="columns missing: 'age', 'bmi'; the file has 'x', 'y'"):
        _check(b"x,y\n", "age", "bmi")


@pytest.mark.parametrize(
    ("delimiter", "name"), [(";", "semicolon"), ("\t", "tab"), ("|", "vertical bar")]
)
def test_a_delimiter_with_which_all_columns_are_found_is_taken(delimiter: str, name: str) -> None:
    header = _read(delimiter.join(["age", '"bmi"']).encode() + b"\n", "age", "bmi")
    assert (header.delimiter, header.columns) == (delimiter, ("age", "bmi"))


@pytest.mark.parametrize(
    ("delimiter", "name"), [(";", "semicolon"), ("\t", "tab"), ("|", "vertical bar")]
)
def test_a_delimiter_that_finds_some_columns_is_named_with_the_flag(
    delimiter: str, name: str
) -> None:
    shown = "'\\\\t'" if delimiter == "\t" else f"'[{delimiter}]'"
    with pytest.raises(FileRefused, match=f"separated by a {name}.*--delimiter {shown}"):
        _check(delimiter.join(["age", '"bmi"']).encode() + b"\n", "age", "bmi", "mass")


def test_a_delimiter_that_was_given_is_not_looked_for() -> None:
    with pytest.raises(FileRefused, match="separated by a semicolon, it seems, and not by a comma"):
        _check(b"age;bmi\n", "age", "bmi", delimiter=",")


def test_comments_before_the_header_are_skipped_if_they_are_named() -> None:
    header = _read(
        b'# made "by\nhand, 2024\n'.replace(b"\nh", b" h") + b"age,bmi\n1,2\n", comment="#"
    )
    assert (header.columns, header.lines) == (("age", "bmi"), 2)


def test_a_comment_that_was_not_named_is_recognised() -> None:
    with pytest.raises(FileRefused, match="give --comment '#'"):
        _check(b"# made by hand\nage,bmi\n", "age", "bmi")


def test_a_header_of_too_many_columns_is_refused() -> None:
    wide = ",".join(f"c{place}" for place in range(20_001)).encode()
    with pytest.raises(FileRefused, match="20,001 columns"):
        _read(wide + b"\n")


def test_utf_16_is_named_with_the_flag_to_give() -> None:
    with pytest.raises(FileRefused, match=r"UTF-16 \(little-endian\).*--encoding utf-16"):
        _read(b"\xff\xfea\0")


def test_a_header_of_one_byte_a_character_is_read_if_it_is_named() -> None:
    assert _read(b"gr\xf6\xdfe\n", encoding="latin-1").columns == ("größe",)


# Headers of other programs


@pytest.mark.parametrize("line", [b"sep=;", b'"sep=;"', b"SEP=;", b"sep=;;;"])
def test_excels_line_about_the_delimiter_is_understood_and_passed_on(line: bytes) -> None:
    start = BOM + line + b"\r\nage;bmi\r\n1;2\r\n"
    header = _read(start, "age")
    assert (header.delimiter, header.columns) == (";", ("age", "bmi"))
    assert (header.size, header.lines) == (start.index(b"1;2"), 2)
    assert header.with_columns(["error"]) == BOM + line + b"\r\nage;bmi;error\r\n"
    assert header.of_columns(["bmi"]) == BOM + line + b"\r\nbmi\r\n"


def test_a_delimiter_that_was_given_overrules_excels_line() -> None:
    assert _read(b"sep=;\nage|bmi\n", "age", delimiter="|").columns == ("age", "bmi")


def test_names_that_pandas_makes_are_found_where_a_model_was_trained_on_them() -> None:
    header = _read(b",a;b,a,a,\n", "Unnamed: 0", "a", "a.1")
    assert header.columns == ("Unnamed: 0", "a;b", "a", "a.1", "")
    check_header("in.csv", header, ["Unnamed: 0", "a", "a.1"])
    assert header.with_columns(["error"]) == b",a;b,a,a,,error\n"


def test_pandas_names_help_to_find_the_delimiter() -> None:
    assert _read(b";a;a\n", "Unnamed: 0", "a", "a.1").columns == ("Unnamed: 0", "a", "a.1")


def test_names_that_no_model_needs_stay_what_they_are() -> None:
    assert _read(b"Unnamed: 0,a,a.1,\n", "a").columns == ("Unnamed: 0", "a", "a.1", "")


def test_a_model_may_have_numbers_for_names() -> None:
    _check(b"0,1,2\n", "0", "1")


@pytest.mark.parametrize("start", [b"1,male,22\n", b"7;male;22,5\n", b"x\tmale\t22\n"])
def test_a_row_where_the_header_should_be_is_told_with_what_to_do(start: bytes) -> None:
    with pytest.raises(
        FileRefused, match=r"got what looks like a row.*before it: 'sex', 'age'"
    ) as caught:
        _check(start, "sex", "age")
    assert caught.value.code == Code.HEADER


# Files that were put together


def _scored_lines(tmp_path: Path, text: bytes, **options: Any) -> tuple[list[str], Any]:
    (tmp_path / "in.csv").write_bytes(text)
    summary = run(tmp_path / "in.csv", tmp_path / "out.csv", **options)
    return (tmp_path / "out.csv").read_text().splitlines(), summary


@pytest.mark.parametrize("mark", [b"", BOM])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_second_header_is_left_out_and_told(tmp_path: Path, mark: bytes, end: bytes) -> None:
    text = b"id,a\n1,9\n" + mark + b"id,a\n2,1\n\n3,x\n" + mark + b"id,a\n"
    lines, summary = _scored_lines(tmp_path, text.replace(b"\n", end))
    assert [line.split(",")[0] for line in lines] == ["id", "1", "2", "3"]
    assert (summary.rows, summary.rejected) == (3, 1)
    assert any("the first is line 3" in note for note in summary.notes)
    report = (tmp_path / "out.csv.errors.csv").read_text().splitlines()
    assert report[1].startswith("3,6,a,")


def test_a_second_header_is_found_among_rows_that_hold_its_names(tmp_path: Path) -> None:
    rows = b"".join(b"city,%d\n" % (number % 11) for number in range(500))
    _, summary = _scored_lines(tmp_path, b"city,a\n" + rows + b"city,a\n" + rows)
    assert (summary.rows, summary.rejected) == (1000, 0)


def test_a_second_header_with_quotes_in_a_name_is_found(tmp_path: Path) -> None:
    header = b'"the ""long"" name",a\n'
    _, summary = _scored_lines(tmp_path, header + b"x,9\n" + header + b"y,9\n")
    assert (summary.rows, summary.rejected) == (2, 0)


def test_a_second_header_with_the_columns_in_another_order_refuses_the_file(tmp_path: Path) -> None:
    """What follows it would be read under the wrong names, and scored without a word."""
    with pytest.raises(
        FileRefused, match="line 3 is a header with the columns in another"
    ) as caught:
        _scored_lines(tmp_path, b"id,a\n1,9\na,id\n9,1\n")
    assert caught.value.code == Code.HEADER


def test_a_value_that_looks_like_the_header_is_no_header(tmp_path: Path) -> None:
    text = b'note,a\n"note,a\n",9\n"x\nnote,a\nx",9\nnote,9\n'
    lines, summary = _scored_lines(tmp_path, text)
    assert (summary.rows, summary.rejected, summary.notes) == (
        3,
        0,
        ("the model does not use 'note'",),
    )
    assert len(lines) == 7


def test_the_only_column_may_have_its_name_as_a_value() -> None:
    header = _read(b"a\n", "a")
    repeated = RepeatedHeader("in.csv", header, Grammar.of(","), [])
    assert repeated.blanked(b"a\nb\n", 2) == b"a\nb\n"


def test_a_file_that_was_put_together_is_cut_at_the_same_rows_after_a_kill(tmp_path: Path) -> None:
    rows = b"".join(b"%d,%d\n" % (number, number % 11) for number in range(3000))
    (tmp_path / "in.csv").write_bytes((b"id,a\n" + rows) * 3)

    def stop(now: BulkProgress) -> None:
        if now.rows > 4000:
            raise RuntimeError("stopped")

    whole, resumed = StubTransport(), StubTransport()
    run(tmp_path / "in.csv", tmp_path / "whole.csv", sizes=SMALL, transport=whole)
    with pytest.raises(RuntimeError, match="stopped"):
        run(tmp_path / "in.csv", tmp_path / "out.csv", sizes=SMALL, progress=stop)
    run(tmp_path / "in.csv", tmp_path / "out.csv", sizes=SMALL, transport=resumed, resume=True)
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    bodies = [request.body for request, _ in whole.sent]
    assert all(request.body in bodies for request, _ in resumed.sent)


def test_column_names_are_safe_in_a_spreadsheet_if_that_was_asked_for(tmp_path: Path) -> None:
    text = b"=1+1|cmd,-3,a\nx,y,9\n"
    plain, _ = _scored_lines(tmp_path, text)
    safe, _ = _scored_lines(tmp_path, text, excel_safe=True, restart=True)
    assert plain[0].startswith("=1+1|cmd,-3,a,")
    assert safe[0].startswith("'=1+1|cmd,-3,a,prediction")


@pytest.mark.parametrize(("mark", "name"), [(";", "a semicolon"), ("\t", "a tab")])
def test_columns_of_other_names_are_told_with_what_separates_them(mark: str, name: str) -> None:
    start = f"id{mark}betrag{mark}besuche\n1{mark}2{mark}3\n".encode()
    needed = ["amount", "visits"]
    header = read_header("in.csv", start, needed=needed, whole=True)
    with pytest.raises(FileRefused) as found:
        check_header("in.csv", header, needed)
    assert "the file has 'id', 'betrag', 'besuche'; its columns are" in found.value.message
    assert f"separated by {name}, it seems: give --delimiter" in found.value.message
