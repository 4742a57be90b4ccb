"""What comes back for a chunk: the input's bytes, and answers where they are looked for."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scoreline_artifacts import Schema
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_client.errors import RequestRefused
from scoreline_client.options import CsvChunk, Policy
from scoreline_client.protocol.messages import WireError
from scoreline_tasks.scoring.csv_codec.codec import is_formula
from scoreline_tasks.scoring.predict import CodecResult
from tests.support.csv_oracle import raw_rows
from tests.support.models import Classifier, Predictor
from tests.support.scoring import score_csv_chunk

COLUMNS = ("id", "a", "t")
TRAINING = pd.DataFrame({"a": [1.0, 9.0] * 2, "t": ["x", "y"] * 2})
FIELDS = st.one_of(
    st.sampled_from(
        ["1", "-2.5", "x", "", "=1", "+4", "-z", "@", '"a,b"', '"a""b"', '"\n"', 'q"', '"7"8', "é"]
    ),
    st.text(alphabet='a",\n\r=-1', max_size=5),
)
TEXTS = st.lists(st.lists(FIELDS, min_size=1, max_size=4).map(",".join), max_size=5).map(
    lambda rows: "".join(f"{row}\n" for row in rows)
)


MODEL = Classifier(lambda frame: frame["a"] > 5, classes=(0, 1))
LOADED = LoadedVersion.of(MODEL, "model", 1, Schema.infer(TRAINING))


def _score(rows: str | bytes, **options: Any) -> CodecResult:
    data = rows if isinstance(rows, bytes) else rows.encode()
    given: dict[str, Any] = {"columns": COLUMNS, "first_row": 11, "first_line": 21, **options}
    return score_csv_chunk(CsvChunk(**given).encode(data), LOADED)


def _rows(text: str) -> list[list[str]]:
    return [row for row in csv.reader(io.StringIO(text, newline="")) if row]


def _output(rows: str, **options: Any) -> list[list[str]]:
    return _rows(bytes(_score(rows, **options).body).decode())


@given(TEXTS)
def test_each_line_begins_with_the_bytes_of_its_row(text: str) -> None:
    alone = [(raw, bytes(_score(raw).body)) for _, raw, _ in raw_rows(text)]
    assert b"".join(body for _, body in alone) == bytes(_score(text).body)
    for raw, body in alone:
        assert body.startswith(_without_line_end(raw).encode())


def _without_line_end(raw: str) -> str:
    is_closed = not bytes(_score(raw).body).decode().startswith(raw)
    return re.sub(r"(\r\n|\r|\n)\Z", "", raw) if is_closed else raw


@given(TEXTS)
@example('1,2,x,\n1,2,x\n1,2,"a,",\n1,2,"a\n,",\n1,2,x,,\n1,2,\n1,2,"x,\n')
def test_one_delimiter_too_many_is_read_past_where_it_is_asked_for(text: str) -> None:
    bodies = []
    for _, raw, _ in raw_rows(text):
        line = re.sub(r"(\r\n|\r|\n)\Z", "", raw)
        fields = next(csv.reader(io.StringIO(line, newline="")), [])
        has_one = len(fields) == len(COLUMNS) + 1 and not fields[-1] and line.endswith(",")
        without = line[:-1] + raw[len(line) :] if has_one else raw
        bodies.append(bytes(_score(without).body))
        assert bytes(_score(raw, trailing_delimiter=True).body) == bodies[-1]
    assert bytes(_score(text, trailing_delimiter=True).body) == b"".join(bodies)


@given(TEXTS)
def test_chosen_columns_come_back_as_the_csv_module_reads_them_and_all_rows_are_as_wide(
    text: str,
) -> None:
    output = _output(text, columns_out=[2, 0])
    expected = [[*row, "", "", ""] for row in _rows(text)]
    assert [row[:2] for row in output] == [[row[2], row[0]] for row in expected]
    assert {len(row) for row in output} <= {2 + 4}


@given(TEXTS, st.sampled_from([None, [0, 2]]))
@example('","a,b","\n', None)
def test_no_field_of_a_safe_output_is_a_formula(text: str, places: list[int] | None) -> None:
    chunk = CsvChunk(columns=COLUMNS, first_row=1, first_line=1)
    output = _output(text, excel_safe=True, columns_out=places)
    assert not any(is_formula(field, chunk) for row in output for field in row)
    plain = _output(text, columns_out=places)
    assert [[one.lstrip("'") for one in row] for row in output] == [
        [one.lstrip("'") for one in row] for row in plain
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
@pytest.mark.parametrize("beside", ["", "# none\n", "\n", 'q",1\n', "7\n"])
def test_chosen_columns_have_the_bytes_that_they_have_in_the_file(
    encoding: str, beside: str
) -> None:
    rows = f'"é,""7""",2,"x"\r\n{beside}"7\r\n€", 2 ,x\r\n'.encode(encoding)
    body = bytes(
        _score(rows, encoding=encoding, columns_out=[2, 0], outputs=[], comment="#").body
    ).decode(encoding)
    assert body.startswith('"x","é,""7"""\r\n')
    assert body.endswith('x,"7\r\n€"\r\n')


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_only_formulas_are_touched_in_a_safe_output(encoding: str) -> None:
    rows = '"7",-2,é\n"=1",+2,"@é"\n =1,2,"x=""\n"""\n'
    body = _score(rows.encode(encoding), encoding=encoding, excel_safe=True, outputs=[]).body
    assert bytes(body).decode(encoding) == rows.replace('=1"', "'=1\"").replace("@é", "'@é")


def test_answers_come_in_the_order_that_is_asked_for() -> None:
    output = _output("7,2,x\n", columns_out=[], outputs=["error", "probability_1", "prediction"])
    assert output == [["", "0.75", "0"]]


def test_an_answer_that_the_model_does_not_have_is_refused() -> None:
    with pytest.raises(RequestRefused, match="probability_0, probability_1"):
        _score("7,2,x\n", outputs=["probability_yes"])


def test_a_column_beyond_the_file_is_refused() -> None:
    with pytest.raises(WireError, match="columns_out"):
        _score("7,2,x\n", columns_out=[3])


def test_the_particulars_of_rejected_rows_have_row_and_line() -> None:
    result = _score('"7\n7",2,x\n\n7,oops,x\n7,,x\n7,zero,x\n', problems=2)
    assert result.rejected == {"E_TYPE": 2, "E_NULL": 1}
    assert result.problems[0] == {
        "row": 12,
        "line": 24,
        "code": "E_TYPE",
        "message": "column 'a': 'oops' is text; expected a finite number",
        "column": "a",
        "value": "'oops'",
    }
    assert [(one["row"], one["line"]) for one in result.problems] == [(12, 24), (13, 25)]


def test_no_particulars_come_unasked() -> None:
    assert _score("7,oops,x\n").problems == []


def test_what_training_did_not_have_is_counted_with_examples() -> None:
    rows = "7,2,X\n7,99,x\n7,2,X\n7,oops,zzz\n7,2,blue\n"
    result = _score(rows, unseen=Policy.WARN, out_of_range=Policy.WARN)
    assert result.warned == [
        {
            "code": "W_OUT_OF_RANGE",
            "column": "a",
            "count": 1,
            "examples": [{"row": 12, "line": 22, "value": "99.0", "count": 1}],
        },
        {
            "code": "W_UNSEEN_CATEGORY",
            "column": "t",
            "count": 3,
            "examples": [
                {"row": 11, "line": 21, "value": "'X'", "count": 2, "nearest": "x"},
                {"row": 15, "line": 25, "value": "'blue'", "count": 1},
            ],
        },
    ]


def test_a_quote_that_is_never_closed_is_closed_before_the_answers() -> None:
    result = _score('7,2,x\n7,"2,x\n')
    assert result.rejected == {"E_QUOTE": 1}
    bad = _rows(bytes(result.body).decode())[1]
    assert bad[1] == "2,x\n"
    assert (len(bad), bad[-1].partition(":")[0]) == (7, "E_QUOTE")


def test_the_output_is_in_the_encoding_of_the_input() -> None:
    result = _score("é€,2,x\né,oops é,x\n".encode("cp1252"), encoding="cp1252")
    assert bytes(result.body).decode("cp1252").startswith("é€,2,x,0,")
    assert result.rejected == {"E_TYPE": 1}


def test_a_byte_that_a_code_page_does_not_have_costs_its_row() -> None:
    result = _score(b"\x81,2,x\n1,2,x\n", encoding="cp1252")
    assert result.rejected == {"E_ENCODING": 1}
    assert bytes(result.body).startswith(b"\x81,2,x,")


@pytest.mark.parametrize(
    "encoding", ["utf-16", "shift_jis", "gbk", "big5", "euc-kr", "utf-7", "rot13", "no"]
)
def test_an_encoding_that_has_not_a_byte_a_character_is_refused(encoding: str) -> None:
    with pytest.raises(WireError, match=encoding):
        _score("é,2,x\n", encoding=encoding)


@pytest.mark.parametrize(
    "encoding", ["latin-1", "cp1252", "cp1251", "koi8-r", "iso8859-15", "mac-roman"]
)
def test_code_pages_are_read(encoding: str) -> None:
    assert _score(b"\xe9,2,x\n", encoding=encoding).rejected == {}


def test_a_file_without_a_line_end_at_its_end_gets_one() -> None:
    assert bytes(_score("7,2,x\r\n7,2,x").body) == b"7,2,x,0,0.25,0.75,\r\n7,2,x,0,0.25,0.75,\n"


def test_comments_are_no_rows() -> None:
    result = _score("#,,\n7,2,x\n# 7\n", comment="#")
    assert (result.records, bytes(result.body)) == (1, b"7,2,x,0,0.25,0.75,\n")


@pytest.mark.parametrize(
    ("number", "written"),
    [
        ("1", "1.0"),
        ("-0.5", "-0.5"),
        ("1e-7", "1e-7"),
        ("1e16", "1e16"),
        ("0.1", "0.1"),
        ("1e300", "1e300"),
    ],
)
def test_numbers_are_written_as_json_has_them(number: str, written: str) -> None:
    same = Predictor(lambda frame: frame["a"].to_numpy())
    loaded = LoadedVersion.of(same, "floats", 1, Schema.infer(TRAINING[["a"]]))
    chunk = CsvChunk(columns=["a"], first_row=1, first_line=1)
    body = bytes(score_csv_chunk(chunk.encode(f"{number}\n2.5\n".encode()), loaded).body)
    # orjson wrote exponents without a plus once.
    assert body.decode().replace("1e+", "1e") == f"{number},{written},\n2.5,2.5,\n"


@pytest.mark.parametrize(
    ("delimiter", "decimal", "shares"),
    [
        (",", ".", "0.25,0.75"),
        (";", ",", "0,25;0,75"),
        ("\t", ".", "0.25\t0.75"),
        (",", ",", '"0,25","0,75"'),
    ],
)
def test_numbers_are_written_in_the_way_of_the_file(
    delimiter: str, decimal: str, shares: str
) -> None:
    rows = [delimiter.join(("p", value, "x")) for value in ("9", "", "2")]
    found = bytes(_score("\n".join(rows), delimiter=delimiter, decimal=decimal).body).decode()
    first, bad, last = found.splitlines()
    assert first == f"{rows[0]}{delimiter}1{delimiter}{shares}{delimiter}"
    assert last == f"{rows[2]}{delimiter}0{delimiter}{shares}{delimiter}"
    *nothing, error = next(csv.reader([bad], delimiter=delimiter))[len(COLUMNS) :]
    assert nothing == ["", "", ""]
    assert error.startswith("E_NULL")


@pytest.mark.parametrize("rows", ["p,9,x\nq,2,y\n", "p,9,x\nq,,y\n\nr,2,x", "p,,x\n"])
def test_answers_alone_begin_their_lines(rows: str) -> None:
    whole = _output(rows)
    assert _output(rows, columns_out=[]) == [row[len(COLUMNS) :] for row in whole]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    "rows", [["p,9,x", "q,10,x"], ["p,9,x", "", "q,10,x"], ['"p\n",9,x', "q,10,x"]]
)
def test_what_is_warned_of_has_its_line(rows: list[str], end: str) -> None:
    text = end.join((*rows, ""))
    (found,) = _score(text, out_of_range=Policy.WARN).warned
    (example,) = found["examples"]
    assert example["row"] == 12
    assert example["line"] == 21 + text[: text.index("q")].count("\n")
