"""`scoreline check`: what is in a file, column by column, and which rows would be rejected."""

from __future__ import annotations

import asyncio
import io
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from scoreline_artifacts import Schema
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_client.cli.check import check, show_report
from scoreline_client.cli.main import main
from scoreline_client.errors import FileRefused
from scoreline_client.files.profile import FileReport, check_file
from scoreline_client.options import BulkOptions
from scoreline_client.protocol.messages import Answer, Operation, Request
from scoreline_client.transport.dispatcher import Transport
from tests.support.bulk import StubTransport
from tests.support.models import Predictor
from tests.support.scoring import answer_to

TRAINING = pd.DataFrame(
    {"age": [20, 90] * 3, "bmi": [18.5, None, 40.0] * 2, "sex": ["F", "M"] * 3, "ok": [True] * 6}
)


def _never_called(_: pd.DataFrame) -> None:
    raise AssertionError("a check must not call the pipeline")


LOADED = LoadedVersion.of(Predictor(_never_called), "visits", 2, Schema.infer(TRAINING))


def _answer(request: Request) -> Answer:
    assert request.operation in (Operation.CHECK, Operation.DESCRIBE)
    return answer_to(request, LOADED)


def _check(path: Path, **options: Any) -> FileReport:
    transport = cast("Transport", StubTransport(_answer))
    return asyncio.run(check_file(transport, "visits", str(path), options=BulkOptions(**options)))


def _file(tmp_path: Path, rows: str, header: str = "id,age,bmi,sex,ok\n") -> Path:
    path = tmp_path / "in.csv"
    path.write_text(header + rows)
    return path


def _columns(report: FileReport) -> dict[str, dict[str, Any]]:
    return {column["name"]: column for column in report.as_json()["columns"]}


BAD = "1,x,20.5,F,true\n2,30,,m,true\n3,200,99,F,1\n4,30\n"


def test_every_column_is_told_with_what_was_expected_and_found(tmp_path: Path) -> None:
    columns = _columns(_check(_file(tmp_path, BAD)))
    assert columns["age"]["type"] == "integer"
    assert columns["age"]["found"] == {"integer": 2, "text": 1}
    assert columns["bmi"]["nulls"] == 1
    assert (columns["bmi"]["minimum"], columns["bmi"]["maximum"]) == (20.5, 99.0)
    assert columns["ok"]["found"] == {"boolean": 2, "integer": 1}


def test_values_that_training_did_not_have_are_told_with_what_was_meant(tmp_path: Path) -> None:
    columns = _columns(_check(_file(tmp_path, BAD)))
    assert columns["sex"]["unseen"] == {
        "count": 1,
        "rejected": 0,
        "examples": [{"value": "'m'", "count": 1, "nearest": "M"}],
    }
    assert columns["age"]["out_of_range"]["examples"] == [{"value": "200", "count": 1}]
    assert list(columns["age"]["training"]) == [20.0, 90.0]


def test_the_first_bad_rows_are_told_with_their_reasons(tmp_path: Path) -> None:
    report = _check(_file(tmp_path, BAD))
    assert [
        (row["row"], row["line"], row["code"], row.get("column")) for row in report.bad_rows
    ] == [
        (1, 2, "E_TYPE", "age"),
        (3, 4, "E_TYPE", "ok"),
        (4, 5, "E_FIELD_COUNT", None),
    ]
    assert report.rejected == {"E_TYPE": 2, "E_FIELD_COUNT": 1}
    assert report.rows == 4


def test_the_reports_of_all_pieces_are_added_up(tmp_path: Path) -> None:
    rows = "".join(f"{row},{row % 100},1.5,{'FMX'[row % 3]},true\n" for row in range(60_000))
    report = _check(_file(tmp_path, rows))
    columns = _columns(report)
    assert report.rows == 60_000
    assert columns["age"]["found"] == {"integer": 60_000}
    assert columns["age"]["out_of_range"]["count"] == 600 * 29
    assert columns["sex"]["unseen"]["examples"][0]["count"] == 20_000
    assert (columns["age"]["minimum"], columns["age"]["maximum"]) == (0.0, 99.0)


def test_no_more_than_ten_bad_rows_are_told(tmp_path: Path) -> None:
    report = _check(_file(tmp_path, "1,x,1,F,true\n" * 50))
    assert (len(report.bad_rows), report.rejected_rows) == (10, 50)


def test_options_of_reading_are_those_of_scoring(tmp_path: Path) -> None:
    path = _file(tmp_path, "1;30;20,5;F;true\n2;NA;30,5;F;true\n", "id;age;bmi;sex;ok\n")
    report = _check(path, decimal=",", nulls=("NA",))
    assert report.rejected == {"E_NULL": 1}
    assert _columns(report)["bmi"]["found"] == {"number": 2}


def test_a_file_without_a_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match="'sex'"):
        _check(_file(tmp_path, "1,2,3\n", "id,age,bmi\n"))


def test_json_lines_are_told_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    good = '{"age":30,"bmi":20.5,"sex":"F","ok":true}'
    path.write_text(f"{good}\n\n{{oops\n{good.replace('30', 'true')}\n{good.replace('F', 'f')}\n")
    report = _check(path)
    assert [(row["row"], row["line"], row["code"]) for row in report.bad_rows] == [
        (2, 3, "E_JSON"),
        (3, 4, "E_TYPE"),
    ]
    assert report.rejected == {"E_JSON": 1, "E_TYPE": 1}
    assert _columns(report)["sex"]["unseen"]["count"] == 1


def test_parquet_is_told_by_its_own_types(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    frame = pd.DataFrame({"age": [30, 300], "bmi": [None, 20.5], "sex": ["F", "?"], "ok": [1, 0]})
    frame.to_parquet(path)
    columns = _columns(_check(path))
    assert columns["ok"]["rejected"] == 2
    assert columns["age"]["out_of_range"]["count"] == 1
    assert columns["bmi"]["nulls"] == 1


def test_the_report_is_a_table_for_people(tmp_path: Path) -> None:
    text = io.StringIO()
    show_report(_check(_file(tmp_path, BAD)), Console(file=text, width=200))
    shown = text.getvalue()
    assert "1 unseen: 'm' (near 'M')" in shown
    assert "1 outside 20 to 90 (1 in rows to be rejected): 200" in shown
    assert "4 rows, of which visits@2 would reject 3 (E_FIELD_COUNT 1, E_TYPE 2)" in shown


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_values_in_rows_to_be_rejected_are_told_apart(tmp_path: Path, suffix: str) -> None:
    rows = [
        {"age": 30, "bmi": 1.5, "sex": "X", "ok": True},
        {"age": 99, "bmi": 1.5, "sex": "X", "ok": None},
        {"age": 30, "bmi": 20.5, "sex": "F", "ok": True},
    ]
    frame, path = pd.DataFrame(rows), tmp_path / f"in.{suffix}"
    if suffix == "csv":
        frame.to_csv(path, index=False)
    elif suffix == "jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    else:
        frame.to_parquet(path, index=False)
    report = _check(path)
    sex, age = _columns(report)["sex"]["unseen"], _columns(report)["age"]["out_of_range"]
    assert (report.rejected_rows, sex["count"], sex["rejected"]) == (1, 2, 1)
    assert (age["count"], age["rejected"]) == (1, 1)
    text = io.StringIO()
    show_report(report, Console(file=text, width=200))
    assert "2 unseen (1 in rows to be rejected): 'X' ×2" in text.getvalue()


def test_the_report_is_json_for_programs(tmp_path: Path) -> None:
    report = json.loads(json.dumps(_check(_file(tmp_path, "1,30,1.5,F,true\n")).as_json()))
    assert (report["rows"], report["rejected"], report["version"]) == (1, 0, 2)


def test_a_column_without_a_number_has_no_range(tmp_path: Path) -> None:
    column = _columns(_check(_file(tmp_path, "1,30,,F,true\n")))["bmi"]
    assert column["minimum"] is None


@pytest.mark.parametrize(("rows", "code"), [(BAD, 1), ("1,30,1.5,F,true\n", 0)])
def test_the_exit_code_says_whether_rows_would_be_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: str, code: int
) -> None:
    report = _check(_file(tmp_path, rows))

    async def check_file(*_: object, **__: object) -> FileReport:
        return report

    monkeypatch.setattr("scoreline_client.async_client.AsyncClient.check_file", check_file)
    result = CliRunner().invoke(check, ["visits", "in.csv", "--json", "--null", "NA"])
    assert result.exit_code == code
    assert json.loads(result.stdout)["rows"] == report.rows


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`scoreline check visits …`, of a worker's own code."""

    async def check(_: object, model: str, source: str, **options: Any) -> FileReport:
        return await check_file(
            cast("Transport", StubTransport(_answer)), model, source, options=options["options"]
        )

    monkeypatch.setattr("scoreline_client.async_client.AsyncClient.check_file", check)
    return lambda *words: CliRunner().invoke(main, ["check", "visits", *map(str, words)])


def test_a_check_takes_the_options_that_it_advises(
    tmp_path: Path, checked: Callable[..., Result]
) -> None:
    path = _file(tmp_path, "1,30,1.5,F,true\n", "id,Age,bmi,sex,ok\n")
    refused = checked(path)
    assert refused.exit_code == 2
    advised = re.search(r"with (--rename .*)", refused.stderr)
    assert advised is not None
    assert checked(path, *shlex.split(advised[1])).exit_code == 0


def test_a_check_takes_directories_patterns_and_several_files(
    tmp_path: Path, checked: Callable[..., Result]
) -> None:
    good = _file(tmp_path, "1,30,1.5,F,true\n")
    assert checked(tmp_path).exit_code == checked(tmp_path / "*.csv").exit_code == 0
    bad = good.with_name("bad.csv")
    bad.write_text("id,age,bmi,sex,ok\n" + BAD)
    done = checked(good, bad)
    assert done.exit_code == 1
    assert (
        done.stdout.splitlines()[-1] == "2 files (0 refused): 5 rows, of which 3 would be rejected"
    )
    good.with_name("worse.csv").write_text("x\n1\n")
    done = checked(tmp_path, "--json")
    assert done.exit_code == 2
    assert "worse.csv: " in done.stderr
    total = {"event": "total", "files": 3, "files_refused": 1, "rows": 5, "rejected": 3}
    assert [json.loads(line).get("rows") for line in done.stdout.splitlines()] == [4, 1, 5]
    assert json.loads(done.stdout.splitlines()[-1]) == total
