"""Dates that are not written as ISO 8601 are read as the option says, and as nothing else."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from scoreline_artifacts import Schema
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_client.errors import SettingsError
from scoreline_client.files.profile import check_file
from scoreline_client.options import BulkOptions
from scoreline_client.protocol.messages import Answer, Request
from scoreline_client.transport.dispatcher import Transport
from scoreline_tasks.scoring.text_values import TextRules, reader_of
from tests.support.bulk import StubTransport, run
from tests.support.models import Predictor
from tests.support.scoring import answer_to

TIMES = pd.to_datetime(["2024-01-31 12:00:00.5", None])


def _loaded(times: Any) -> LoadedVersion:
    schema = Schema.infer(pd.DataFrame({"since": times}))
    answers = Predictor(lambda frame: np.array([str(one) for one in frame["since"]], dtype=object))
    return LoadedVersion.of(answers, "since", 1, schema)


def _read(tmp_path: Path, text: str, times: Any = TIMES, **options: Any) -> tuple[str, str]:
    """The time that the pipeline gets for a text, and the error."""
    loaded = _loaded(times)

    def answered(request: Request) -> Answer:
        return answer_to(request, loaded)

    (tmp_path / "in.csv").write_text(f'since\n"{text}"\n')
    transport = StubTransport(answered)
    run(tmp_path / "in.csv", tmp_path / "out.csv", transport=transport, model="since", **options)
    (row,) = pd.read_csv(tmp_path / "out.csv", dtype=str, keep_default_na=False).to_dict("records")
    return row["prediction"], row["error"]


@pytest.mark.parametrize(
    ("text", "date_format", "expected"),
    [
        ("25.08.2024", "%d.%m.%Y", "2024-08-25"),
        (" 5.8.24 ", "%d.%m.%y", "2024-08-05"),
        ("08/05/2024", "%m/%d/%Y", "2024-08-05"),
        ("08/05/2024", "%d/%m/%Y", "2024-05-08"),
        ("25.08.2024 13:05", "%d.%m.%Y %H:%M", "2024-08-25 13:05:00"),
        ("2024-08-25", "", "2024-08-25"),
        ("45529", "excel", "2024-08-25"),
        ("45529.75", "excel", "2024-08-25 18:00:00"),
        ("45529.0000115741", "excel", "2024-08-25 00:00:01"),
        ("1", "excel", "1900-01-01"),
        ("59", "excel", "1900-02-28"),
        ("61", "excel", "1900-03-01"),
    ],
)
def test_a_date_is_read_as_it_is_written(
    tmp_path: Path, text: str, date_format: str, expected: str
) -> None:
    value, error = _read(tmp_path, text, date_format=date_format)
    assert (pd.Timestamp(value), error) == (pd.Timestamp(expected), "")


@pytest.mark.parametrize(
    ("text", "date_format", "said"),
    [
        ("2024-08-25", "%d.%m.%Y", "written as %d.%m.%Y (--date-format)"),
        ("31.02.2024", "%d.%m.%Y", "written as %d.%m.%Y (--date-format)"),
        ("25.08.2024", "", "dates that are written otherwise are read with --date-format"),
        ("45529", "", "a spreadsheet's serial number? It is read with --date-format excel"),
        ("45529.75", "", "a spreadsheet's serial number? It is read with --date-format excel"),
        ("2024", "", "dates that are written otherwise are read with --date-format"),
        ("60", "excel", "written as a serial number (--date-format)"),
        ("0", "excel", "written as a serial number (--date-format)"),
        ("-3", "excel", "written as a serial number (--date-format)"),
        ("9999999", "excel", "written as a serial number (--date-format)"),
        ("2024-08-25", "excel", "written as a serial number (--date-format)"),
    ],
)
def test_a_date_that_is_written_otherwise_is_refused(
    tmp_path: Path, text: str, date_format: str, said: str
) -> None:
    value, error = _read(tmp_path, text, date_format=date_format)
    assert value == ""
    assert error.startswith("E_TYPE: column 'since': ")
    assert error.endswith(said)


def test_a_missing_date_and_a_zone_are_as_ever(tmp_path: Path) -> None:
    assert _read(tmp_path, "", date_format="%d.%m.%Y") == ("NaT", "")
    zoned = TIMES.tz_localize("UTC")
    value, error = _read(tmp_path, "25.08.2024 +0200", zoned, date_format="%d.%m.%Y %z")
    assert (pd.Timestamp(value), error) == (pd.Timestamp("2024-08-24 22:00", tz="UTC"), "")
    assert "has no offset" in _read(tmp_path, "25.08.2024", zoned, date_format="%d.%m.%Y")[1]


def test_a_decimal_comma_is_one_of_a_serial_number_too(tmp_path: Path) -> None:
    value, error = _read(tmp_path, "45529,5", date_format="excel", decimal=",")
    assert (value, error) == ("2024-08-25 12:00:00", "")


@pytest.mark.parametrize("date_format", ["%Q", "%d.%m.%", "%E", "x" * 101, "%d\n"])
def test_a_format_that_nobody_knows_is_refused_where_it_is_given(date_format: str) -> None:
    with pytest.raises(SettingsError, match="date_format"):
        BulkOptions(date_format=date_format)


@pytest.mark.parametrize(
    "date_format",
    ["DD.MM.YYYY", "d.m.Y", "%d.%m", "%H:%M", "%m/%Y", "%d.%d.%Y", "%d.%m.%m.%Y", "%%d.%m.%Y", "x"],
)
def test_a_format_that_names_no_day_is_refused_at_once(date_format: str) -> None:
    with pytest.raises(SettingsError, match=r"expected year, month and day .* such as %d\.%m\.%Y"):
        BulkOptions(date_format=date_format)


@pytest.mark.parametrize("date_format", ["%d.%m.%Y", "%j/%y", "%d %b %Y", "%B %d, %Y %I:%M %p %%"])
def test_a_format_that_names_a_day_is_taken(date_format: str) -> None:
    assert BulkOptions(date_format=date_format).date_format == date_format


def test_excel_is_excel_in_any_case(tmp_path: Path) -> None:
    assert BulkOptions(date_format="Excel").date_format == "excel"
    assert _read(tmp_path, "45529", date_format="EXCEL") == ("2024-08-25 00:00:00", "")


def test_a_code_that_is_there_twice_costs_no_worker_anything() -> None:
    column = Schema.infer(pd.DataFrame({"since": TIMES})).columns[0]
    assert reader_of(column, TextRules(date_format="%d.%d.%Y"))("1.1.2024") == "1.1.2024"


def test_a_check_counts_dates_as_it_is_told_to_read_them(tmp_path: Path) -> None:
    loaded = _loaded(TIMES)
    (tmp_path / "in.csv").write_text("since\n25.08.2024\n2024-08-25\n\n24.08.2024\n")
    transport = cast("Transport", StubTransport(lambda request: answer_to(request, loaded)))
    options = BulkOptions(date_format="%d.%m.%Y")
    source = str(tmp_path / "in.csv")
    report = asyncio.run(check_file(transport, "since", source, options=options))
    assert report.columns[0].found == {"datetime": 2, "text": 1}
    assert report.rejected == {"E_TYPE": 1}
