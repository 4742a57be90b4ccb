"""Values that were read as they stand and may have meant something else are told, unless the file speaks against it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pytest

from scoreline_artifacts import Schema
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_client.files.checkpoint import Mark
from scoreline_client.files.doubts import Doubts
from scoreline_client.files.profile import check_file
from scoreline_client.files.reader import DEFAULT_SIZES, FileSizes
from scoreline_client.files.run import ScoreSummary
from scoreline_client.options import BulkOptions
from scoreline_client.protocol.messages import Answer, Request
from scoreline_client.transport.dispatcher import Transport
from scoreline_gateway.v1.asking import in_query
from tests.support.bulk import StubTransport, run
from tests.support.models import Classifier
from tests.support.scoring import answer_to

TRAINING = pd.DataFrame(
    {"amount": [7.5, 800.25], "visits": [1, 9], "city": ["Wien", None], "note": ["", "x"]}
)
LOADED = LoadedVersion.of(
    Classifier(lambda frame: frame["amount"] > 5), "churn", 1, Schema.infer(TRAINING)
)
GERMAN = "amount;visits;city;note\n1.234;3;Wien;\n12.500;3;Wien;\n800;3;Wien;\n"
THOUSANDS = "amount: could be 1234 (--decimal , --thousands .)"


def _answer(request: Request) -> Answer:
    return answer_to(request, LOADED)


def _score(
    tmp_path: Path, text: str, sizes: FileSizes = DEFAULT_SIZES, **options: Any
) -> ScoreSummary:
    source = tmp_path / "in.csv"
    source.write_text(text)
    return run(
        source,
        tmp_path / "out.csv",
        transport=StubTransport(_answer),
        model="churn",
        sizes=sizes,
        **options,
    )


def _check(tmp_path: Path, text: str, **options: Any) -> list[str]:
    source = tmp_path / "in.csv"
    source.write_text(text)
    transport = cast("Transport", StubTransport(_answer))
    report = check_file(transport, "churn", str(source), options=BulkOptions(**options))
    return asyncio.run(report).notes


def _doubts(notes: Any) -> list[str]:
    return [note for note in notes if "could be" in note or "--null" in note]


def test_german_thousands_are_told_in_the_summary(tmp_path: Path) -> None:
    (note,) = _doubts(_score(tmp_path, GERMAN).notes)
    assert note.startswith(THOUSANDS)


def test_german_thousands_are_told_by_a_check(tmp_path: Path) -> None:
    (note,) = _doubts(_check(tmp_path, GERMAN))
    assert note.startswith(THOUSANDS)


def test_they_are_told_of_a_file_of_nothing_but_numbers(tmp_path: Path) -> None:
    (note,) = _doubts(_check(tmp_path, "amount;visits;note;city\n1.234;3;;\n1.234.567;3;;\n"))
    assert note.startswith(THOUSANDS)


def test_a_number_that_is_refused_for_its_comma_does_not_speak_against_it(tmp_path: Path) -> None:
    (note,) = _doubts(_score(tmp_path, GERMAN + "1.800,5;3;Wien;\n").notes)
    assert note.startswith(THOUSANDS)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (GERMAN + "1.5;3;Wien;\n", {}),
        (GERMAN + "0.234;3;Wien;\n", {}),
        (GERMAN + "1234.567;3;Wien;\n", {}),
        (GERMAN.replace(";", ","), {}),
        (GERMAN, {"decimal": ",", "thousands": "."}),
        (GERMAN, {"thousands": "'"}),
    ],
    ids=["another-fraction", "zero-before", "four-before", "commas", "read-so", "other-thousands"],
)
def test_nothing_is_told_where_the_file_or_the_caller_says_how(
    tmp_path: Path, text: str, options: dict[str, Any]
) -> None:
    assert _doubts(_score(tmp_path, text, **options).notes) == []


def test_a_whole_number_column_is_doubted_too(tmp_path: Path) -> None:
    # 12.000 is a whole number: twelve.
    (note,) = _doubts(_score(tmp_path, "amount;visits;city;note\n7;12.000;Wien;\n").notes)
    assert note.startswith("visits: could be 12000 (")


def test_what_another_chunk_says_decides(tmp_path: Path) -> None:
    sizes = FileSizes(smallest_chunk_bytes=64, largest_chunk_bytes=64)
    text = GERMAN + "700;3;Wien;\n" * 50
    assert len(_doubts(_score(tmp_path, text, sizes).notes)) == 1
    assert _doubts(_score(tmp_path, text + "1.5;3;Wien;\n", sizes).notes) == []
    assert _doubts(_score(tmp_path, text.replace("1.234", "1.5"), sizes).notes) == []


def test_a_run_that_goes_on_remembers_its_doubts() -> None:
    import msgspec

    mark = b'{"place":{"offset":1,"row":1,"line":2},"plain":1,"flushed":[0,0],"errors":0}'
    read = msgspec.json.decode(mark, type=Mark)
    assert read.doubts == {}
    assert b"doubts" not in msgspec.json.encode(read)
    kept = msgspec.structs.replace(read, doubts={"thousands amount": (2, "1.234")})
    assert msgspec.json.decode(msgspec.json.encode(kept), type=Mark) == kept


def test_a_word_for_a_missing_value_that_is_read_as_text_is_told(tmp_path: Path) -> None:
    text = "amount,visits,city,note\n7,3,NA,\n7,3,Wien,\n7,3,NA,NA\n"
    (note,) = _doubts(_score(tmp_path, text).notes)
    assert note == (
        "city: 'NA' is there 2 times, and was read as text: --null NA if it stands for a missing value"
    )
    assert _doubts(_score(tmp_path, text, nulls=("", "NA")).notes) == []


def test_a_space_between_groups_is_any_space(tmp_path: Path) -> None:
    rows = "".join(f"1{mark}234,5;3;Wien;\n" for mark in " \u00a0\u202f\u2009")
    text = f"amount;visits;city;note\n{rows}"
    assert _score(tmp_path, text, decimal=",", thousands=" ").rejected == 0
    assert _score(tmp_path, text, decimal=",", thousands="\u202f").rejected == 3


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("12,50", "is it written with --decimal ,?"),
        ("1,234", "is it written with --decimal , or --thousands ,?"),
        ("1.234.567", "is it written with --decimal , --thousands .?"),
        ("1'234.5", """is it written with --thousands "'"?"""),
        ("1 234,5", "is it written with --decimal , --thousands ' '?"),
        ("1\u202f234,56", "is it written with --decimal , --thousands ' '?"),
        ("1\u00a0234,56", "is it written with --decimal , --thousands ' '?"),
        ("1\u2009234.5", "is it written with --thousands ' '?"),
        ("12 %", "numbers are written without %"),
        ("much", "expected a finite number"),
    ],
)
def test_a_refused_number_is_told_how_it_may_be_written(
    tmp_path: Path, value: str, hint: str
) -> None:
    _score(tmp_path, f"amount;visits;city;note\n{value};3;Wien;\n")
    (message,) = pd.read_csv(tmp_path / "out.csv.errors.csv")["message"]
    assert message.endswith(hint)


HEAD = "amount;visits;city;note\n"


def _remedies(notes: Any) -> list[str]:
    return [note for note in notes if ": is it" in note or "--encoding" in note or "--date" in note]


def test_the_summary_names_the_option_that_would_read_the_rejected_values(tmp_path: Path) -> None:
    assert _remedies(_score(tmp_path, f"{HEAD}12,50;3;Wien;\n1,5;3;Wien;\n").notes) == [
        "amount: 2 of 2 values are like '12,50': is it written with --decimal ,?"
    ]
    mixed = f"{HEAD}12,50;3;Wien;\n1;3;Wien;\n1,234;3;Wien;\nx;3;Wien;\n"
    assert _remedies(_score(tmp_path, mixed).notes) == [
        "amount: 1 of 4 values are like '12,50': is it written with --decimal ,?",
        "amount: 1 of 4 values are like '1,234': is it written with --decimal , or --thousands ,?",
    ]
    assert _remedies(_score(tmp_path, f"{HEAD}1.5;3;Wien;\nx;3;Wien;\n").notes) == []


def test_the_summary_names_the_option_that_reads_past_a_delimiter_too_many(tmp_path: Path) -> None:
    lines = f"{HEAD}12.5;3;Wien;\n1.5;3;Wien;;\n7;3;Graz;;\n"
    summary = _score(tmp_path, lines)
    assert (
        "2 of 3 lines end with a delimiter too many: --trailing-delimiter reads past it"
        in summary.notes
    )
    summary = _score(tmp_path, lines, trailing_delimiter=True)
    assert (summary.scored, summary.rejected) == (3, 0)
    assert not any("too many" in note for note in summary.notes)
    written = (tmp_path / "out.csv").read_text().splitlines()
    assert [line.count(";") for line in written] == [written[0].count(";")] * 4


def test_the_summary_names_the_encoding_that_would_read_the_rejected_lines(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_bytes(f"{HEAD}1;3;Köln;\n1;3;Graz;\n2;3;Düren;\n".encode("cp1252"))
    summary = run(source, tmp_path / "out.csv", transport=StubTransport(_answer), model="churn")
    assert _remedies(summary.notes) == [
        "2 of 3 lines are not in this encoding: --encoding cp1252 would read 'Köln'"
    ]


def test_a_remedy_is_told_of_the_first_columns_alone() -> None:
    doubts = Doubts()
    message = "column 'x': '1,5' is text; is it written with --decimal ,?"
    for number in range(8):
        doubts.add_problems([{"message": message, "column": f"c{number}", "value": "'1,5'"}])
    notes = doubts.notes(8)
    assert len(notes) == 6
    assert notes[-1].startswith("3 more columns have values that an option would have read")


def test_lines_that_are_longer_than_the_header_in_the_output_are_told(tmp_path: Path) -> None:
    text = f"{HEAD}1;3;Wien;;x\n1;3;Wien;\n1;3\n" + "1;3;Wien;;x;y\n" * 6
    (note,) = (note for note in _score(tmp_path, text).notes if "more fields" in note)
    assert note.startswith("lines 2, 5, 6, 7, 8 and 2 more have more fields than the header")
    with pytest.raises(pd.errors.ParserError):
        pd.read_csv(tmp_path / "out.csv", sep=";")
    summary = _score(tmp_path, text, keep=("amount",))
    assert not any("more fields" in note for note in summary.notes)
    assert len(pd.read_csv(tmp_path / "out.csv", sep=";")) == 9


@pytest.mark.parametrize("value", ["1e999", "nan", "-inf", "Infinity"])
def test_the_error_report_has_the_text_of_the_file(tmp_path: Path, value: str) -> None:
    _score(tmp_path, f"{HEAD}{value};3;Wien;\n")
    (row,) = pd.read_csv(tmp_path / "out.csv.errors.csv", dtype=str).to_dict("records")
    assert (row["code"], row["value"]) == ("E_NON_FINITE", f"'{value}'")
    assert f"'{value}' is no finite number" in row["message"]


def test_notes_are_told_over_http_by_the_parameters_of_a_query(tmp_path: Path) -> None:
    rows = "12,50;3;Wien;\n1\u202f234;3;Wien;\n1;3;Wien;;x\n"
    notes = [in_query(note) for note in _score(tmp_path, f"{HEAD}{rows}").notes]
    assert [note for note in notes if "--" in note] == []
    assert any(note.endswith("is it written with `?decimal=,`?") for note in notes)
    assert any("`?thousands=%20`" in note for note in notes)
    assert any("are chosen (`?keep`, `?drop`), each line" in note for note in notes)
