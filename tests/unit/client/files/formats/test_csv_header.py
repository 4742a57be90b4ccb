"""A file that cannot be scored is refused before its first row, with a message that helps."""

import pytest

from scoreline_client.codes import Code
from scoreline_client.errors import FileRefused
from scoreline_client.files.columns import nearest
from scoreline_client.files.formats.csv import Header, check_header, read_header


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


def test_the_nearest_name_ignores_case_and_blanks() -> None:
    assert nearest("mass", ["pedi", " MASS "]) == " MASS "
