"""A chunk of CSV lines comes back with answers appended; the answers stand where they should."""

import csv
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreline_artifacts import Schema
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_client.codes import Code
from scoreline_client.errors import RequestRefused
from scoreline_client.options import CsvChunk
from scoreline_client.protocol.messages import WireError
from scoreline_tasks.scoring.predict import CodecResult
from tests.support.models import Classifier, Predictor
from tests.support.scoring import score_csv_chunk

COLUMNS = ("id", "a", "b")
NUMBERS = Schema.infer(pd.DataFrame({"a": [1.5], "b": [1]}))
GOOD = "7,2.5,3"


class Sum(Classifier):
    """Says yes where a + b is over 5, with a made-up probability that only they decide."""

    def __init__(self) -> None:
        super().__init__(lambda frame: frame["a"] + frame["b"] > 5)

    def predict_proba(self, frame: pd.DataFrame) -> npt.NDArray[Any]:
        yes = 1 / (1 + np.exp(-(frame["a"].to_numpy() + frame["b"].to_numpy()) / 1000))
        return np.column_stack([1 - yes, yes])


SAME = Predictor(lambda frame: np.asarray(frame.iloc[:, 0]))
IS_MISSING = Predictor(lambda frame: np.asarray(frame.iloc[:, 0].isna()))


def _chunk(columns: Sequence[str] = COLUMNS) -> CsvChunk:
    return CsvChunk(columns=columns, first_row=1, first_line=2)


def _score(rows: str | bytes, columns: Sequence[str] = COLUMNS) -> CodecResult:
    data = rows.encode() if isinstance(rows, str) else rows
    return score_csv_chunk(_chunk(columns).encode(data), LoadedVersion.of(Sum(), "sum", 1, NUMBERS))


def _lines(rows: str | bytes) -> list[list[str]]:
    text = bytes(_score(rows).body).decode("utf-8", "surrogateescape")
    return list(csv.reader(io.StringIO(text, newline="")))


def _error(row: str) -> str:
    """The error of a row between two good ones, which must be scored as ever."""
    before, bad, after = _lines(f"{GOOD}\n{row}\n{GOOD}\n")
    assert before == after
    assert before[3] == "yes"
    return bad[-1]


def _values(column: Any, texts: Sequence[str]) -> CodecResult:
    schema = Schema.infer(pd.DataFrame({"x": column}))
    rows = "".join(f"{text}\n" for text in texts).encode()
    loaded = LoadedVersion.of(SAME, "same", 1, schema)
    return score_csv_chunk(_chunk(["x"]).encode(rows), loaded)


PLAIN_NUMBERS = st.one_of(
    st.integers(1, 10**9).map(str),
    st.integers(-(10**9), -1).map(str),
    st.floats(0.001, 1e6).map(lambda value: f"{value:.6f}"),
    st.sampled_from(["0", "007", "5.", ".5", "-3.25", "0.0", "3.0"]),
)
ODD_FIELDS = st.one_of(
    st.sampled_from(["", "x", "0x1F", "1_0", "１", "inf", "nan", "1e999", "1e3", "+4", " 5", "5%"]),
    st.text(alphabet='a1 ",\n\ré', max_size=6).map(lambda text: f'"{text.replace(chr(34), "")}"'),
)
PLAIN_ROWS = st.lists(st.tuples(PLAIN_NUMBERS, PLAIN_NUMBERS, PLAIN_NUMBERS), max_size=8)
ODD_ROWS = st.lists(st.lists(PLAIN_NUMBERS | ODD_FIELDS, min_size=2, max_size=4), max_size=8)
LINE_ENDS = st.sampled_from(["\n", "\r\n"])


def _text(rows: Sequence[Sequence[str]], line_end: str) -> str:
    return "".join(",".join(row) + line_end for row in rows)


@given(PLAIN_ROWS, LINE_ENDS)
def test_a_line_is_answered_alike_in_plain_and_in_odd_company(rows: Any, line_end: str) -> None:
    plain = bytes(_score(_text([*rows, GOOD.split(",")], line_end)).body)
    odd = bytes(_score(_text([*rows, GOOD.split(","), ["1", "x", "1"]], line_end)).body)
    assert odd.startswith(plain)


@given(ODD_ROWS, LINE_ENDS)
def test_there_is_one_line_for_each_row_of_the_csv_module(rows: Any, line_end: str) -> None:
    text = _text([*rows, GOOD.split(",")], line_end)
    expected = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    found = _lines(text)
    assert [line[: len(row)] for line, row in zip(found, expected, strict=True)] == expected


@given(ODD_ROWS, LINE_ENDS)
def test_the_answers_stand_in_their_columns_but_behind_a_row_that_is_too_long(
    rows: Any, line_end: str
) -> None:
    text = _text([*rows, GOOD.split(",")], line_end)
    expected = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    assert [len(line) for line in _lines(text)] == [max(3, len(row)) + 4 for row in expected]


@given(ODD_ROWS, LINE_ENDS)
def test_every_row_is_either_scored_or_counted_as_rejected(rows: Any, line_end: str) -> None:
    result = _score(_text([*rows, GOOD.split(",")], line_end))
    failed = [line for line in _lines(_text([*rows, GOOD.split(",")], line_end)) if line[-1]]
    assert sum(result.rejected.values()) == len(failed)


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_the_files_own_line_ends_are_kept(line_end: str) -> None:
    body = bytes(_score(_text([GOOD.split(","), GOOD.split(",")], line_end)).body).decode()
    assert body.count(line_end) == 2
    assert body.startswith(f"{GOOD},yes,")


def test_the_inputs_bytes_are_untouched() -> None:
    rows = '"007", 2.50 ,+3\n"a ""b""\nc",2.5,3\n'
    first, second = bytes(_score(rows).body).decode().split(",yes,")[:2]
    assert first == '"007", 2.50 ,+3'
    assert second.endswith('"a ""b""\nc",2.5,3')


def test_a_blank_line_is_no_row() -> None:
    assert _score(f"{GOOD}\n\n{GOOD}\n").records == 2


def test_columns_that_the_model_does_not_need_may_hold_anything() -> None:
    assert _score("not a number,2.5,3\n").rejected == {}


def test_columns_are_found_by_name_in_any_order() -> None:
    body = bytes(_score("3,2.5\n", ["b", "a"]).body).decode()
    assert body.startswith("3,2.5,yes,")


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ("7,x,3", Code.TYPE),
        ("7,0x1F,3", Code.TYPE),
        ("7,1_000,3", Code.TYPE),
        ("7,１,3", Code.TYPE),
        ("7,5%,3", Code.TYPE),
        ('7,"1,5",3', Code.TYPE),
        ("7,true,3", Code.TYPE),
        ("7,2.5,3.5", Code.TYPE),
        ("7,,3", Code.NULL),
        ("7,NA,3", Code.TYPE),
        ("7,nan,3", Code.NON_FINITE),
        ("7,-inf,3", Code.NON_FINITE),
        ("7,1e999,3", Code.NON_FINITE),
        ("7,2.5,99999999999999999999", Code.RANGE),
        ("7,2.5", Code.FIELD_COUNT),
        ("7,2.5,3,4", Code.FIELD_COUNT),
        ("7\0,2.5,3", Code.CONTROL_CHAR),
    ],
)
def test_a_bad_row_has_its_error_in_its_own_line(row: str, code: Code) -> None:
    assert _error(row).startswith(f"{code}: ")


def test_an_error_names_column_and_value() -> None:
    assert "'a'" in _error("7,abc,3")
    assert "'abc'" in _error("7,abc,3")


def test_a_delimiter_too_many_is_explained() -> None:
    assert "the line ends with a delimiter too many" in _error("7,2.5,3,")


def test_a_row_that_is_not_utf_8_costs_only_itself() -> None:
    before, bad, after = bytes(_score(b"7,2.5,3\n\xff,2.5,3\n7,2.5,3\n").body).split(b"\n")[:3]
    assert before == after
    assert bad.startswith(b"\xff,2.5,3,")
    assert b"E_ENCODING" in bad


@pytest.mark.parametrize("text", ["5", "5.0", "+5", " 5 ", "5e0", "005"])
def test_a_whole_number_may_be_written_in_several_ways(text: str) -> None:
    assert _values([1, 2], [text]).rejected == {}


@pytest.mark.parametrize("text", ["true", "True", "FALSE"])
def test_a_boolean_may_be_written_in_any_case(text: str) -> None:
    assert _values([True, False], [text]).rejected == {}


def test_zero_and_one_are_no_booleans() -> None:
    assert _values([True, False], ["0", "1"]).rejected == {Code.TYPE: 2}


def test_an_empty_field_is_missing_where_training_had_missing_values() -> None:
    schema = Schema.infer(pd.DataFrame({"x": [1.5, None]}))
    loaded = LoadedVersion.of(IS_MISSING, "missing", 1, schema)
    result = score_csv_chunk(_chunk(["x"]).encode(b'""\n2.5\n'), loaded)
    assert bytes(result.body) == b'"",true,\n2.5,false,\n'


def test_words_for_missing_are_text() -> None:
    body = bytes(_values(["a", "b"], ["NA", "null"]).body)
    assert body == b"NA,NA,\nnull,null,\n"


def test_an_unseen_category_is_rejected() -> None:
    result = _values(pd.Categorical(["red", "blue"]), ["red", "green"])
    assert result.rejected == {Code.CATEGORY: 1}


def test_a_text_answer_is_quoted_where_it_must_be() -> None:
    assert bytes(_values(["a"], ['"x,""y"""']).body) == b'"x,""y""","x,""y""",\n'


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5))
def test_a_predicted_number_reads_back_as_the_same_number(numbers: list[float]) -> None:
    body = bytes(_values([1.5], [repr(number) for number in numbers]).body).decode()
    assert [float(line.split(",")[1]) for line in body.splitlines()] == numbers


def test_a_missing_column_refuses_the_chunk() -> None:
    with pytest.raises(RequestRefused, match="'a'") as caught:
        _score("1,2\n", ["id", "b"])
    assert (caught.value.code, caught.value.column) == (Code.MISSING_COLUMN, "a")


def test_a_body_without_a_head_is_refused() -> None:
    with pytest.raises(WireError):
        score_csv_chunk(b"7,2.5,3\n", LoadedVersion.of(Sum(), "sum", 1, NUMBERS))


def test_a_chunk_whose_rows_are_all_rejected_has_all_columns() -> None:
    assert bytes(_score("7,x,3\n").body).startswith(b"7,x,3,,,,E_TYPE")


@pytest.mark.parametrize("other", ["1", "1e5", "+1"])
def test_a_number_beyond_all_floats_is_refused_whatever_its_neighbours(other: str) -> None:
    assert _score(f"1,1{'0' * 309},1\n1,{other},1\n").rejected == {"E_RANGE": 1}


def test_minus_zero_is_the_same_beside_numbers_and_beside_text() -> None:
    plain = bytes(_values([1.5], ["-0"]).body)
    assert bytes(_values([1.5], ["-0", "x"]).body).startswith(plain)


def test_a_long_field_is_no_quoting_error() -> None:
    assert _score("z" * 200_000 + ",2.5,3\n" + '"",2.5,3\n').rejected == {}


def test_text_behind_a_closing_quote_is_refused() -> None:
    assert _score('"7"8,2.5,3\n7,2.5,3\n').rejected == {"E_QUOTE": 1}
