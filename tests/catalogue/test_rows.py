"""The catalogue of bad input: what is about rows, values and records. Numbers are the catalogue's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pandas as pd
import pytest

from scoreline_client.errors import FileRefused
from scoreline_client.options import Policy, RequestOptions
from scoreline_client.protocol.messages import Answer, Codec, Request
from tests.catalogue.harness import (
    GOOD,
    HEADER,
    ROW,
    ConstantClassifier,
    ScoringHarness,
    ask,
    post,
    row,
)

YES = ",yes,0.25,0.75,"


@pytest.fixture
def harness(tmp_path: Path) -> ScoringHarness:
    return ScoringHarness(tmp_path)


def _rejected(harness: ScoringHarness, bad: str, **options: Any) -> dict[str, str]:
    """What the report says of a row between two good ones, which must be scored as ever."""
    scored = harness.score(f"{ROW}\n{bad}\n{ROW}\n", **options)
    assert scored.output.startswith(
        f"{HEADER},prediction,probability_no,probability_yes,error\n".encode()
    )
    assert scored.exit_code == 1
    assert [bool(error) for error in scored.errors] == [False, True, False]
    assert f"\n{bad}".encode() in scored.output
    (told,) = scored.report
    assert told["row"] == "2"
    assert scored.errors[1] == f"{told['code']}: {told['message']}"
    return told


def _code(answer: Answer, place: int = 0) -> str:
    return str(answer.errors[str(place)]["code"])


def test_01_a_record_without_a_column_names_it_and_what_is_near() -> None:
    answer = post([{**{k: v for k, v in GOOD.items() if k != "age"}, "Age": 30}, GOOD])
    assert _code(answer) == "E_MISSING_COLUMN"
    assert "did you mean it by 'Age'?" in answer.errors["0"]["message"]
    assert answer.values == [None, "yes"]


def test_02_an_extra_column_is_passed_through_and_refused_when_strict(
    harness: ScoringHarness,
) -> None:
    scored = harness.score(f"{ROW}\n")
    assert scored.exit_code == 0
    assert scored.output.splitlines()[1] == (ROW + YES).encode()
    with pytest.raises(FileRefused, match="'id'"):
        harness.score(f"{ROW}\n", strict=True, restart=True)


def test_04_columns_are_found_by_name_in_any_order(harness: ScoringHarness) -> None:
    scored = harness.score(
        ",".join(reversed(ROW.split(","))) + "\n", header=",".join(reversed(HEADER.split(",")))
    )
    assert scored.summary.rejected == 0
    assert post([dict(reversed(GOOD.items()))]).values == ["yes"]


def test_07_every_row_with_an_extra_field_is_rejected_and_nothing_shifts(
    harness: ScoringHarness,
) -> None:
    scored = harness.score(f"{ROW},9\n{ROW},9\n")
    assert scored.summary.rejected_by_code == {"E_FIELD_COUNT": 2}
    assert scored.errors == ["E_FIELD_COUNT: expected 8 fields, got 9"] * 2


def test_08_a_delimiter_at_the_end_of_rows_is_explained(harness: ScoringHarness) -> None:
    told = _rejected(harness, f"{ROW},")
    message = "expected 8 fields, got 9; the line ends with a delimiter too many: --trailing-delimiter reads past it"
    assert told["message"] == message


def test_10_a_long_row_costs_itself(harness: ScoringHarness) -> None:
    assert _rejected(harness, f"{ROW},9,9")["code"] == "E_FIELD_COUNT"


def test_11_a_short_row_costs_itself_and_its_error_stands_in_its_column(
    harness: ScoringHarness,
) -> None:
    assert _rejected(harness, "007,30")["code"] == "E_FIELD_COUNT"
    width = len(HEADER.split(",")) + 4
    assert [len(row) for row in harness.score("007,30\n", restart=True).rows] == [width]


def test_15_blank_lines_are_no_rows_and_line_numbers_stay_physical(harness: ScoringHarness) -> None:
    scored = harness.score(f"{ROW}\n\n\r\n{row(age='x')}\n")
    assert scored.summary.rows == 2
    assert [(row["row"], row["line"]) for row in scored.report] == [("2", "5")]


def test_17_a_decimal_comma_is_an_error_unless_it_is_asked_for(harness: ScoringHarness) -> None:
    told = _rejected(harness, row(bmi='"22,5"'))
    assert (told["code"], told["column"]) == ("E_TYPE", "bmi")
    european = row(bmi="22,5", weight="1.060,5").replace(",", ";").replace("22;5", "22,5")
    european = european.replace("1.060;5", "1.060,5")
    scored = harness.score(
        f"{european}\n",
        header=HEADER.replace(",", ";"),
        decimal=",",
        thousands=".",
        out_of_range=Policy.IGNORE,
        restart=True,
    )
    assert scored.output.decode().splitlines()[1].split(";")[8:11] == ["yes", "0,25", "0,75"]


def test_18_thousands_are_an_error_that_names_the_column(harness: ScoringHarness) -> None:
    assert _rejected(harness, row(bmi='"1,000"'))["column"] == "bmi"


def test_22_a_latin_1_byte_costs_its_row(harness: ScoringHarness) -> None:
    bad = ROW.replace("007", "caf").encode() + b"\n"
    bad = bad.replace(b"caf", b"caf\xe9")
    scored = harness.score(f"{ROW}\n".encode() + bad + f"{ROW}\n".encode())
    (told,) = scored.report
    assert (told["code"], told["line"]) == ("E_ENCODING", "3")
    assert "byte 3 of the line, 0xe9" in told["message"]
    assert bad.rstrip() in scored.output


def test_22_a_declared_encoding_is_read_and_its_bytes_come_back(harness: ScoringHarness) -> None:
    bad = row(id="caf\xe9").encode("latin-1") + b"\n"
    scored = harness.score(bad, encoding="latin-1")
    assert scored.summary.rejected == 0
    assert bad.rstrip() in scored.output


def test_25_a_row_of_several_lines_has_a_number_and_a_line(harness: ScoringHarness) -> None:
    scored = harness.score(f"{row(id=chr(34) + 'a' + chr(10) + 'b' + chr(34))}\n{row(age='x')}\n")
    assert [(row["row"], row["line"]) for row in scored.report] == [("2", "4")]


def test_27_a_stray_quote_is_text_unless_strict(harness: ScoringHarness) -> None:
    assert harness.score(f"{row(id='5' + chr(34))}\n").summary.rejected == 0
    header = HEADER.removeprefix("id,")
    stray = row(sex='M"x').removeprefix("007,")
    scored = harness.score(f"{stray}\n", header=header, strict=True, restart=True)
    assert scored.summary.rejected_by_code == {"E_QUOTE": 1}


def test_27_text_behind_a_closing_quote_is_an_error(harness: ScoringHarness) -> None:
    assert _rejected(harness, row(id='"7"8'))["code"] == "E_QUOTE"


def test_28_a_nul_byte_costs_its_row(harness: ScoringHarness) -> None:
    assert _rejected(harness, row(sex="F\0"))["code"] == "E_CONTROL_CHAR"
    assert _code(post([{**GOOD, "sex": "F\0"}])) == "E_CONTROL_CHAR"


@pytest.mark.parametrize(
    ("number", "column", "text", "code"),
    [
        (34, "bmi", "", "E_NULL"),
        (34, "age", "", "E_NULL"),
        (34, "bmi", "nan", "E_NON_FINITE"),
        (35, "bmi", "inf", "E_NON_FINITE"),
        (35, "bmi", "-Infinity", "E_NON_FINITE"),
        (35, "bmi", "1e999", "E_NON_FINITE"),
        (36, "bmi", "abc", "E_TYPE"),
        (38, "age", "true", "E_TYPE"),
        (39, "bmi", "NA", "E_TYPE"),
        (39, "bmi", "null", "E_TYPE"),
        (40, "age", "9223372036854775808", "E_RANGE"),
        (40, "age", "1" + "0" * 30, "E_RANGE"),
        (41, "bmi", "1" + "0" * 400, "E_RANGE"),
        (43, "age", "0x1F", "E_TYPE"),
        (44, "age", "1_000", "E_TYPE"),
        (44, "age", "３０", "E_TYPE"),
        (44, "bmi", "−5", "E_TYPE"),
        (44, "bmi", "5\u00a0", "E_TYPE"),
        (45, "bmi", "5%", "E_TYPE"),
        (45, "bmi", "2024-05-01", "E_TYPE"),
        (46, "plan", "silver", "E_CATEGORY"),
        (47, "plan", "Gold", "E_CATEGORY"),
    ],
)
def test_34_to_47_a_bad_value_costs_its_row(
    harness: ScoringHarness, number: int, column: str, text: str, code: str
) -> None:
    told = _rejected(harness, row(**{column: text}))
    assert (told["code"], told["column"]) == (code, column)
    assert len(told["value"]) <= 80


def test_34_an_empty_field_is_missing_where_training_had_missing_values(
    harness: ScoringHarness,
) -> None:
    assert harness.score(f"{row(weight='')}\n").summary.rejected == 0
    assert post([{**GOOD, "weight": None}]).values == ["yes"]
    assert _code(post([{**GOOD, "bmi": None}])) == "E_NULL"


def test_37_text_in_a_number_of_json_is_an_error_unless_coerced() -> None:
    texts = [{**GOOD, "age": "30", "bmi": " 1.5", "smokes": "TRUE"}]
    assert _code(post(texts)) == "E_TYPE"
    coerce = RequestOptions(coerce=True).encoded_options
    assert post(texts, options=coerce).values == ["yes"]
    assert _code(post([{**GOOD, "bmi": "0x1F"}], options=coerce)) == "E_TYPE"


def test_37_and_38_files_are_coerced_when_asked(harness: ScoringHarness) -> None:
    text = row(age="TRUE", smokes="1")
    assert harness.score(f"{text}\n").summary.rejected == 1
    assert harness.score(f"{text}\n", coerce=True).summary.rejected == 0
    record = orjson.dumps({**GOOD, "age": "30", "smokes": 0})
    lines = harness.score(record + b"\n", header="", name="in.jsonl", coerce=True)
    assert lines.summary.rejected == 0


def test_38_a_boolean_is_no_number_unless_coerced() -> None:
    assert _code(post([{**GOOD, "age": True}])) == "E_TYPE"
    assert _code(post([{**GOOD, "smokes": 1}])) == "E_TYPE"
    coerce = RequestOptions(coerce=True).encoded_options
    assert post([{**GOOD, "age": True, "smokes": 0}], options=coerce).values == ["yes"]


def test_39_only_declared_tokens_are_missing(harness: ScoringHarness) -> None:
    scored = harness.score(
        f"{row(weight='NA')}\n{row(weight='')}\n{row(sex='NA')}\n",
        nulls=("NA",),
        unseen=Policy.WARN,
    )
    assert [error.partition(":")[0] for error in scored.errors] == ["", "E_TYPE", "E_NULL"]


def test_39_words_for_missing_are_text_in_a_text_column(harness: ScoringHarness) -> None:
    scored = harness.score(f"{row(sex='NA')}\n{row(sex='null')}\n")
    assert scored.summary.rejected == 0
    assert scored.summary.warnings == {"W_UNSEEN_CATEGORY sex": 2}


@pytest.mark.parametrize("number", ["9223372036854775808", "18446744073709551617", "1" + "0" * 30])
def test_40_a_whole_number_that_does_not_fit_is_refused(number: str) -> None:
    body = orjson.dumps([GOOD, GOOD]).replace(b'"age":30', f'"age":{number}'.encode(), 1)
    answer = post(body)
    assert (_code(answer), answer.values) == ("E_RANGE", [None, "yes"])


@pytest.mark.parametrize("number", ["9007199254740993", "18446744073709551617", "1" + "0" * 30])
def test_40_a_column_of_floats_takes_the_nearest_float(
    harness: ScoringHarness, number: str
) -> None:
    body = orjson.dumps([GOOD, GOOD]).replace(b"22.5", number.encode(), 1)
    assert post(body).values == ["yes", "yes"]
    assert harness.score(f"{row(bmi=number)}\n").summary.rejected == 0


def test_41_a_number_of_400_digits_costs_its_record() -> None:
    body = orjson.dumps([GOOD, GOOD]).replace(b"22.5", b"1" + b"0" * 400, 1)
    answer = post(body)
    assert answer.values == [None, "yes"]
    assert _code(answer) == "E_RANGE"


def test_42_identifiers_come_back_as_they_were(harness: ScoringHarness) -> None:
    identifier = "00012345678901234567890"
    scored = harness.score(f"{row(id=identifier, age='030')}\n", id="id")
    assert scored.output.splitlines()[1] == f"{identifier}{YES}".encode()


def test_44_the_message_shows_the_code_point(harness: ScoringHarness) -> None:
    assert "\\u2212" in _rejected(harness, row(bmi="−5"))["value"]


@pytest.mark.parametrize(("text", "near"), [("m", "M"), ("M ", "M"), ("X", None)])
def test_46_and_47_an_unseen_text_is_scored_with_a_warning(
    harness: ScoringHarness, text: str, near: str | None
) -> None:
    scored = harness.score(f"{ROW}\n{row(sex=text)}\n", outputs=("prediction", "warnings"))
    assert scored.summary.warnings == {"W_UNSEEN_CATEGORY sex": 1}
    hint = f"; the nearest is {near!r}" if near else ""
    assert [row[-1] for row in scored.rows] == [
        "",
        f"W_UNSEEN_CATEGORY: column 'sex': {text!r} was not there in training{hint}",
    ]


def test_46_an_unseen_text_is_an_error_by_policy(harness: ScoringHarness) -> None:
    scored = harness.score(f"{row(sex='X')}\n", unseen=Policy.ERROR)
    assert scored.summary.rejected_by_code == {"E_CATEGORY": 1}
    refuse = RequestOptions(unseen=Policy.ERROR).encoded_options
    assert _code(post([{**GOOD, "sex": "X"}], options=refuse)) == "E_CATEGORY"


def test_48_a_number_out_of_range_is_scored_with_a_warning(harness: ScoringHarness) -> None:
    scored = harness.score(f"{row(age='900')}\n{ROW}\n")
    assert scored.summary.warnings == {"W_OUT_OF_RANGE age": 1}
    warn = RequestOptions(out_of_range=Policy.WARN).encoded_options
    answer = post([GOOD, {**GOOD, "age": 900}], options=warn)
    assert answer.values == ["yes", "yes"]
    (warning,) = answer.warnings["1"]
    assert (warning["code"], warning["column"], warning["value"]) == (
        "W_OUT_OF_RANGE",
        "age",
        "900",
    )


def test_48_nothing_is_said_where_nobody_asked() -> None:
    assert post([{**GOOD, "age": 900}]).warnings == {}


def test_48_a_number_out_of_range_is_an_error_by_policy() -> None:
    refuse = RequestOptions(out_of_range=Policy.ERROR).encoded_options
    answer = post([{**GOOD, "age": 900}, GOOD], options=refuse)
    assert (_code(answer), answer.values) == ("E_OUT_OF_RANGE", [None, "yes"])


@pytest.mark.parametrize("value", [[1], {"a": 1}, [], {}])
def test_49_a_list_or_an_object_as_a_value_costs_its_record(value: object) -> None:
    answer = post([{**GOOD, "age": value}, {**GOOD, "sex": value}, GOOD])
    assert (_code(answer, 0), _code(answer, 1)) == ("E_TYPE", "E_TYPE")
    assert answer.values[2] == "yes"


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_50_words_for_no_number_are_no_json(word: str) -> None:
    body = orjson.dumps([{"note": "NaN é"}, GOOD]).replace(b"22.5", word.encode())
    answer = post(body)
    assert answer.error is not None
    assert answer.error["code"] == "E_JSON"
    assert f"at byte {body.index(b'bmi') + 5}" in answer.error["message"]


def test_50_broken_json_has_the_place_of_the_byte() -> None:
    answer = post('[{"é": 1,}]'.encode())
    assert answer.error is not None
    assert "at byte 9" in answer.error["message"] or "at byte 10" in answer.error["message"]


@pytest.mark.parametrize(
    "twice",
    [
        b'{"age":1,"age":2}',
        b'{"a:b":"x:y","age" : 1 ,"age" : 2}',
        b'{"x":{"a":1,"a":2}}',
        b'{"":1,"":2}',
    ],
)
def test_51_a_key_that_is_there_twice_costs_its_record(twice: bytes) -> None:
    answer = post(b"[" + twice + b"," + orjson.dumps(GOOD) + b"]")
    assert _code(answer) == "E_DUPLICATE_KEY"
    assert answer.values == [None, "yes"]


@pytest.mark.parametrize(
    "more",
    [{"url": "http://x:1/a:b"}, {"a": {"b": [{"c": 1}, {"c": 2}]}}, {'k"\\:': ':"'}, {":": 1}],
)
def test_51_colons_elsewhere_are_no_keys(more: dict[str, Any]) -> None:
    assert post([{**GOOD, **more}]).values == ["yes"]


def test_52_deep_nesting_is_an_error_and_no_crash() -> None:
    for body in (b"[" * 100_000, b"[" * 2000 + b"]" * 2000, b'[{"a":' * 900 + b"1" + b"}]" * 900):
        answer = post(body)
        assert answer.error is not None or answer.errors
    assert post(b"[" * 100_000).error["code"] == "E_JSON"  # type: ignore[index]


def test_52_a_huge_text_is_cut_in_messages() -> None:
    answer = post([{**GOOD, "age": "x" * 1_000_000}])
    assert len(answer.errors["0"]["value"]) <= 80
    assert len(answer.errors["0"]["message"]) < 300


def test_53_a_lone_surrogate_costs_its_record() -> None:
    body = orjson.dumps([{**GOOD, "sex": "@"}, GOOD]).replace(b"@", b"\\ud800")
    answer = post(body)
    assert (_code(answer), answer.values) == ("E_ENCODING", [None, "yes"])


def test_53_bytes_that_are_no_utf_8_are_told_with_their_place() -> None:
    answer = post(b'[{"sex":"\xff"}]')
    assert answer.error is not None
    assert answer.error["code"] == "E_ENCODING"
    assert "0xff at 9" in answer.error["message"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"[]", "E_EMPTY_REQUEST"),
        (b"5", "E_WIRE"),
        (b"null", "E_WIRE"),
        (b"{}", "E_WIRE"),
        (b"", "E_JSON"),
    ],
)
def test_54_a_body_that_holds_no_records_is_refused(body: bytes, code: str) -> None:
    answer = post(body)
    assert answer.error is not None
    assert answer.error["code"] == code


@pytest.mark.parametrize("record", [5, "x", None, [1], True])
def test_54_what_is_no_record_costs_itself(record: object) -> None:
    answer = post([record, GOOD])
    assert (_code(answer), answer.values) == ("E_TYPE", [None, "yes"])


def test_55_records_with_other_keys_have_their_own_errors() -> None:
    answer = post([GOOD, {"age": 1}, {}, {**GOOD, "extra": 1}])
    assert answer.values == ["yes", None, None, "yes"]
    assert {_code(answer, 1), _code(answer, 2)} == {"E_MISSING_COLUMN"}


@pytest.mark.parametrize("model", ["../../etc", "Visits", "", "visits@", "visits@-1", "a" * 65])
def test_57_a_name_that_is_none_is_refused(model: str) -> None:
    answer = ask(Request(id="1" * 32, model=model, body=orjson.dumps([GOOD])), ConstantClassifier())
    assert answer.error is not None
    assert answer.error["code"] == "E_UNKNOWN_MODEL"


@pytest.mark.parametrize("body", [b"", b"x", orjson.dumps([GOOD]), b"\xff\xff\xff\xff\x10\0\0\0"])
def test_58_what_is_no_arrow_is_refused(body: bytes) -> None:
    """Damaged streams, and columns of other types: see tests/unit/tasks/scoring/test_arrow_codec.py."""
    answer = ask(
        Request(id="1" * 32, model="visits", body=body, codec=Codec.ARROW), ConstantClassifier()
    )
    assert answer.error is not None
    assert answer.error["code"] == "E_ARROW_INVALID"


@pytest.mark.parametrize("text", ["=cmd()", "+1-555", "@x", "-x", '"\tx"', '"=1,2"', '"\rx"'])
def test_59_formulas_come_back_as_they_are_unless_excel_safe(
    harness: ScoringHarness, text: str
) -> None:
    line = row(id=text)
    assert line.encode() in harness.score(f"{line}\n").output
    safe = harness.score(f"{line}\n{row(id='-5')}\n", excel_safe=True, restart=True).rows
    plain = text.strip('"')
    assert [row[0] for row in safe] == [f"'{plain}", "-5"]


def test_59_an_odd_row_is_made_safe_too(harness: ScoringHarness) -> None:
    scored = harness.score('=1,"x"y\n', excel_safe=True)
    assert scored.rows[0][:2] == ["'=1", "xy"]
    assert scored.errors[0].startswith("E_QUOTE")


class Fragile(ConstantClassifier):
    """Raises when anybody is 77."""

    def predict_proba(self, frame: pd.DataFrame) -> npt.NDArray[Any]:
        if (frame["age"] == 77).any():
            raise ValueError("77")
        return super().predict_proba(frame)


def test_62_a_row_that_the_pipeline_cannot_take_costs_itself(harness: ScoringHarness) -> None:
    """One that ends the process: see tests/integration/test_rescue.py."""
    scored = harness.score(f"{ROW}\n{row(age='77')}\n{ROW}\n", pipeline=Fragile())
    assert [(row["row"], row["code"]) for row in scored.report] == [("2", "E_PREDICT")]


class NotANumber(ConstantClassifier):
    def predict_proba(self, frame: pd.DataFrame) -> npt.NDArray[Any]:
        shares = super().predict_proba(frame)
        shares[frame["age"] == 77] = np.nan
        return shares


class TooShort(ConstantClassifier):
    def predict_proba(self, frame: pd.DataFrame) -> npt.NDArray[Any]:
        return super().predict_proba(frame)[1:]


def test_63_nan_is_no_answer(harness: ScoringHarness) -> None:
    scored = harness.score(f"{ROW}\n{row(age='77')}\n", pipeline=NotANumber())
    assert [(row["row"], row["code"]) for row in scored.report] == [("2", "E_MODEL_OUTPUT")]
    assert scored.rows[1][-4:-1] == ["", "", ""]


def test_63_an_answer_of_another_length_is_never_matched_to_rows(harness: ScoringHarness) -> None:
    scored = harness.score(f"{ROW}\n{ROW}\n", pipeline=TooShort())
    assert scored.summary.rejected_by_code == {"E_MODEL_OUTPUT": 2}
    assert _code(post([GOOD], pipeline=TooShort())) == "E_MODEL_OUTPUT"
