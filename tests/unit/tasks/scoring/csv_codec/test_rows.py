"""The fast reader and Python's csv module agree about every text: its rows, its values, its problems."""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scoreline_artifacts import Schema
from scoreline_artifacts.validation import NO_RULES
from scoreline_client.options import CsvChunk
from scoreline_tasks.scoring.csv_codec.codec import check_rows, text_rules
from scoreline_tasks.scoring.csv_codec.rows import ChunkRows, read_chunk, read_numbers
from scoreline_tasks.scoring.text_values import reader_of
from tests.support.csv_oracle import consult

COLUMNS = ("id", "n", "i", "t", "b", "c", "d", "m")
SCHEMA = Schema.infer(
    pd.DataFrame(
        {
            "n": [1.5, 2.5],
            "i": [1, 2],
            "t": ["x", "y"],
            "b": [True, False],
            "c": pd.Categorical(["red", "blue"]),
            "d": pd.to_datetime(["2024-01-01", "2025-01-01"]),
            "m": [1.5, None],
        }
    )
)

NUMBERS = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(
        [
            "0",
            "007",
            "5.",
            ".5",
            "-3.25",
            "3.0",
            "-0",
            "+4",
            "1e3",
            "1E-2",
            "1e999",
            "-1e999",
            "1e-400",
            "nan",
            "inf",
            "-Infinity",
            "0x1F",
            "1_0",
            "１",
            "5%",
            "1,000",
            "−5",
            "true",
            "9007199254740993",
            "1e",
            ".",
            "-",
            "+",
            "e5",
            "1e+",
            "+-1",
        ]
    ),
    st.sampled_from([" 5", "5 ", " ", "", "\t5", "5\u00a0", "5\v"]),
)
VALUES: list[st.SearchStrategy[str]] = [
    NUMBERS,
    st.text(alphabet="ab é\u0301\ud7ffx'", max_size=5),
    st.sampled_from(["true", "False", "TRUE", "1", "falſe", "", "no"]),
    st.sampled_from(["red", "blue", "Red", "green", "red ", ""]),
    st.sampled_from(
        [
            "2024-01-01",
            "2024-02-30",
            "2024-01-01T10:00:00",
            "2024-01-01T10:00:00.123456",
            "2024-01-01T10",
            "1850-01-01",
            "2024-01-01T10:00:00Z",
            "24-01-01",
            "20240101",
            "2024-W01-1",
            "2024-01-01T10:00:00,5",
            "2024-01-01T24:00:00",
            "2024-01-01T10:00:00.1234567",
            "9999-12-31",
            "2024-13-01",
            "x",
        ]
    ),
]
ANY = st.one_of(*VALUES, st.text(max_size=4))
QUOTED = st.text(alphabet='a1 "",\n\r\t\0é;', max_size=8).map(
    lambda text: '"' + text.replace('"', '""') + '"'
)
STRAY = st.text(alphabet='a1",\r\n', max_size=5)
FIELDS = st.one_of(ANY, ANY.map(lambda text: f'"{text}"'), QUOTED)
LINE_ENDS = st.sampled_from(["\n", "\r\n", "\r", "\n\n", "\r\n\r\n"])


def _good_row() -> st.SearchStrategy[str]:
    kinds = (ANY, NUMBERS, NUMBERS, *VALUES[1:], NUMBERS)
    return st.tuples(*(one | one.map(lambda text: f'"{text}"') for one in kinds)).map(",".join)


ROWS = st.one_of(_good_row(), st.lists(FIELDS, min_size=1, max_size=9).map(",".join), STRAY)
TEXTS = st.lists(st.tuples(ROWS, LINE_ENDS).map("".join), max_size=6).map("".join)
GOOD = "1,2.5,3,x,true,red,2024-01-01,4"


def _read(data: bytes, **options: Any) -> ChunkRows:
    return read_chunk(CsvChunk(columns=COLUMNS, first_row=1, first_line=1, **options), data)


def _data(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@given(TEXTS)
@example(f'{GOOD}\n"a')
@example(f'{GOOD}\r\n"a\r\nb",1,2,x,true,red,2024-01-01,\r')
def test_the_rows_are_those_of_the_csv_module(text: str) -> None:
    data = _data(text)
    rows, oracle = _read(data), consult(data, COLUMNS, SCHEMA)
    assert len(rows) == len(oracle.fields)
    assert [rows.position(row)["line"] - 1 for row in range(len(rows))] == oracle.lines


@given(TEXTS)
@example(f"{GOOD}\n{GOOD.replace('2.5', '+2.5')}\n{GOOD.replace('2024', '1824')}")
def test_the_values_are_those_of_the_careful_way(text: str) -> None:
    data = _data(text)
    rows, oracle = _read(data), consult(data, COLUMNS, SCHEMA)
    checked = check_rows(rows, SCHEMA, NO_RULES)
    assert {one.record: (one.code, one.column) for one in checked.problems} == oracle.codes
    pd.testing.assert_frame_equal(checked.frame, oracle.frame, check_exact=True)
    assert np.signbit(checked.frame["n"]).tolist() == np.signbit(oracle.frame["n"]).tolist()


ODD = [
    *[
        "",
        " ",
        "0",
        "007",
        "5.",
        ".5",
        "-3.25",
        "3.0",
        "3.5",
        "-0",
        "+4",
        "1e3",
        "1E-2",
        "-1e3",
        "1e999",
    ],
    *[
        "-1e999",
        "1e-400",
        "nan",
        "NaN",
        "-nan",
        "inf",
        "+inf",
        "-Infinity",
        "0x1F",
        "0X1f",
        "1_0",
        "１",
    ],
    *["5%", "1.000.000", "−5", "true", "TRUE", "False", "falſe", "yes", "1", "9007199254740991"],
    *["9007199254740993", "9223372036854775807", "9223372036854775808", "-9223372036854775809"],
    *[
        "1" + "0" * 25,
        "1" * 450,
        "0" * 450 + "1",
        "1e",
        ".",
        "-",
        "+",
        "e5",
        "1e+",
        "+-1",
        "--1",
        "1-2",
    ],
    *[
        " 5",
        "5 ",
        "\t5",
        "5\u00a0",
        "5\v",
        "red",
        "Red",
        "blue ",
        "x" * 200,
        "2024-01-01",
        "2024-02-30",
    ],
    *[
        "2024-01-01T10:00:00.123456",
        "2024-01-01T10:00:00.1234567",
        "1850-01-01",
        "2024-01-01T10:00Z",
    ],
    *[
        "2024-01-01 10:00:00",
        "2024-01-01T25:00:00",
        "20240101",
        "2024-W01-1",
        "9999-12-31",
        "null",
        "NA",
    ],
]


@pytest.mark.parametrize("column", COLUMNS)
def test_every_odd_text_means_what_it_means_in_the_careful_way(column: str) -> None:
    place = COLUMNS.index(column)
    for text in ODD:
        fields = GOOD.split(",")
        fields[place] = text
        for data in (f"{','.join(fields)}\n", f"{GOOD}\n{','.join(fields)}\n{GOOD}\n"):
            rows, oracle = _read(data.encode()), consult(data.encode(), COLUMNS, SCHEMA)
            checked = check_rows(rows, SCHEMA, NO_RULES)
            found = {one.record: (one.code, one.column) for one in checked.problems}
            assert (text, found) == (text, oracle.codes)
            pd.testing.assert_frame_equal(checked.frame, oracle.frame, check_exact=True)


@given(
    st.binary(max_size=40)
    | st.lists(st.sampled_from([b"\xff", b"\xc3\xa9", b",", b"\n", b'"', b"\0", b"1"])).map(
        b"".join
    )
)
def test_any_bytes_are_rows_of_some_kind(data: bytes) -> None:
    rows, oracle = _read(data), consult(data, COLUMNS, SCHEMA)
    checked = check_rows(rows, SCHEMA, NO_RULES)
    assert {one.record: (one.code, one.column) for one in checked.problems} == oracle.codes


@given(TEXTS)
def test_a_row_means_the_same_in_any_company(text: str) -> None:
    alone = check_rows(_read(_data(text)), SCHEMA, NO_RULES)
    company = check_rows(_read(_data(f'{GOOD}\n5" x,1\n') + _data(text)), SCHEMA, NO_RULES)
    assert [one.message for one in company.problems[1:]] == [one.message for one in alone.problems]


PLAIN = st.lists(st.sampled_from([b"1", b"20", b"-", b".", b"5.5", b"-3", b"9" * 16, b",", b"\n", b"\r\n", b"\r", b"1,2\n", b"1,2\n"]), max_size=12).map(b"".join)  # fmt: skip


@given(PLAIN)
def test_the_shortest_way_says_the_same_or_nothing(data: bytes) -> None:
    schema = Schema.infer(pd.DataFrame({"a": [1.5], "b": [1]}))
    chunk = CsvChunk(columns=["a", "b"], first_row=1, first_line=1)
    plain = read_numbers(chunk, data, schema)
    if plain is not None:
        rows = read_chunk(chunk, data)
        checked = check_rows(rows, schema, NO_RULES)
        assert not checked.problems
        frame = check_rows(plain, schema, NO_RULES).frame
        pd.testing.assert_frame_equal(frame, checked.frame, check_exact=True)
        for name in ("starts", "ends", "stops"):
            assert getattr(plain, name).tolist() == getattr(rows, name).tolist()


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_plain_numbers_go_the_shortest_way(line_end: str) -> None:
    schema = Schema.infer(pd.DataFrame({"a": [1.5], "b": [1]}))
    chunk = CsvChunk(columns=["id", "b", "a"], first_row=1, first_line=1)
    assert read_numbers(chunk, f"007,5,-2.5{line_end}8,5,.5{line_end}".encode(), schema) is not None


@pytest.mark.parametrize(
    ("number", "value"),
    [("2,5", 2.5), ("1.234,5", 1234.5), ("-1.000", -1000.0), ("+7", 7.0), ("1.234.567", 1234567.0)],
)
def test_numbers_may_be_written_in_the_european_way(number: str, value: float) -> None:
    schema = Schema.infer(pd.DataFrame({"n": [1.5]}))
    chunk = CsvChunk(
        columns=["n"], first_row=1, first_line=1, delimiter=";", decimal=",", thousands="."
    )
    checked = check_rows(read_chunk(chunk, f"{number}\n1\n".encode()), schema, NO_RULES)
    assert checked.frame["n"].tolist() == [value, 1.0]


@pytest.mark.parametrize(
    "number",
    ["2.5", "1.23", "12.3456,7", "1.2345", ",", "1,2,3", "0.123", "-0.123", "01.234", "000.123,5"],
)
def test_separators_must_stand_where_they_belong(number: str) -> None:
    schema = Schema.infer(pd.DataFrame({"n": [1.5]}))
    chunk = CsvChunk(
        columns=["n"], first_row=1, first_line=1, delimiter=";", decimal=",", thousands="."
    )
    checked = check_rows(read_chunk(chunk, f"{number}\n1\n".encode()), schema, NO_RULES)
    assert [one.code for one in checked.problems] == ["E_TYPE"]


MARKS = ("", ".", "'", " ", ",", "\u00a0", "\u202f", "\u2009")
GROUPED = st.tuples(
    st.sampled_from(["", "-", "+"]),
    st.lists(st.text("0123456789", max_size=4), min_size=1, max_size=4),
    st.sampled_from([*MARKS, "_"]),
    st.sampled_from(["", ".", ",", ".5", ",5", ".123", ",125", ",5e2", ",e"]),
).map(lambda parts: f"{parts[0]}{parts[2].join(parts[1])}{parts[3]}")


def _number_of(text: str, decimal: str, thousands: str) -> float | None:
    """A number that is written with these marks, told by hand."""
    text = text.strip(" ")
    for space in "\u00a0\u202f\u2009":
        text = text.replace(space, thousands if thousands == " " else space)
    digits = text[1:] if text[:1] in ("-", "+") else text
    mantissa, exponent, power = digits.partition("e")
    whole, _, fraction = mantissa.partition(decimal)
    groups = whole.split(thousands) if thousands else [whole]
    first, *others = groups
    is_grouped = not others or (
        0 < len(first) <= 3 and first[0] != "0" and all(len(group) == 3 for group in others)
    )
    plain = "".join(groups)
    is_number = all(part.isdecimal() for part in (plain, fraction, power) if part)
    if not is_grouped or not is_number or not plain + fraction or (exponent and not power):
        return None
    return float(f"{text[: len(text) - len(digits)]}{plain or 0}.{fraction or 0}e{power or 0}")


@given(
    st.lists(GROUPED, min_size=1, max_size=4),
    st.sampled_from([(".", ""), (".", ","), (".", "'"), (",", "."), (",", " "), (",", "_")]),
)
@example(["0.123"], (",", "."))
@example(["1\u202f234,5", "1\u00a0234\u2009567", "0 123"], (",", " "))
@example(["1.234", "0.123", "01.234,5"], (",", "."))
def test_groups_of_digits_mean_what_they_mean_in_the_careful_way(
    numbers: list[str], marks: tuple[str, str]
) -> None:
    decimal, thousands = marks
    schema = Schema.infer(pd.DataFrame({"n": [1.5, None], "w": [1, 2]}))
    data = "".join(f'"{one}","{one}"\n' for one in ["1", *numbers]).encode()
    chunk = CsvChunk(
        columns=["n", "w"], first_row=1, first_line=1, decimal=decimal, thousands=thousands
    )
    checked = check_rows(read_chunk(chunk, data), schema, NO_RULES)
    oracle = consult(data, ["n", "w"], schema, text_rules(chunk))
    assert {one.record: (one.code, one.column) for one in checked.problems} == oracle.codes
    pd.testing.assert_frame_equal(checked.frame, oracle.frame, check_exact=True)
    # The oracle reads by the same pattern: what is no number is told without it.
    read = reader_of(schema.columns[0], text_rules(chunk))
    for one in filter(None, numbers):
        value = read(one)
        assert (one, None if isinstance(value, str) else value) == (
            one,
            _number_of(one, decimal, thousands),
        )


@given(
    st.lists(st.sampled_from(["1,2", "#x", '#"', '"#",1', '"a\n#b",2', "a#b,c", ""]), max_size=6)
)
def test_a_comment_is_a_line_that_begins_with_its_character_where_a_row_could(
    lines: list[str],
) -> None:
    data = "".join(f"{one}\n" for one in lines).encode()
    chunk = CsvChunk(columns=["a", "b"], first_row=1, first_line=1, comment="#")
    without = "".join(f"{one}\n" for one in lines if not one.startswith("#"))
    expected = [row for row in csv.reader(io.StringIO(without, newline="")) if row]
    rows = read_chunk(chunk, data)
    assert not rows.problems()
    found = [rows.texts(place).to_pylist() for place in range(2)]
    assert [list(row) for row in zip(*found, strict=True)] == expected


@given(st.lists(st.text(alphabet="abé€ü'=5", max_size=5), min_size=1, max_size=5))
def test_a_code_page_is_read_as_what_it_says(texts: list[str]) -> None:
    data = "".join(f"1,{text}\n" for text in texts).encode("cp1252")
    chunk = CsvChunk(columns=["a", "b"], first_row=1, first_line=1, encoding="cp1252")
    assert read_chunk(chunk, data).texts(1).to_pylist() == texts


def test_quotes_may_be_switched_off() -> None:
    chunk = CsvChunk(columns=["a", "b"], first_row=1, first_line=1, quote="")
    rows = read_chunk(chunk, b'"x,5" y\n3,"\n')
    assert [rows.texts(place).to_pylist() for place in range(2)] == [['"x', "3"], ['5" y', '"']]


def test_other_quotes_are_quotes() -> None:
    chunk = CsvChunk(columns=["a", "b"], first_row=1, first_line=1, quote="'")
    assert read_chunk(chunk, b"'x,''\n',\"\n").texts(0).to_pylist() == ["x,'\n"]
