"""CSV becomes Parquet and the other way round, with the same answers, however often the run is interrupted."""

from __future__ import annotations

import datetime
import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoreline_client.errors import FileRefused, SettingsError
from scoreline_client.files.reader import FileSizes
from scoreline_client.files.run import BulkProgress
from tests.support.bulk import run

CSV = 'id,note,a\n007,"x, ""y""",9\n12345678901234567890,,bad\n8\n9,"",1\n'
SMALL = FileSizes(
    smallest_chunk_bytes=64, largest_chunk_bytes=64, fewest_chunk_rows=3, most_chunk_rows=3
)


def test_a_csv_file_becomes_parquet_with_its_text_and_typed_answers(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(CSV)
    summary = run(tmp_path / "in.csv", tmp_path / "out.parquet")
    table = pq.read_table(tmp_path / "out.parquet")
    assert (summary.rows, summary.rejected_by_code) == (4, {"E_TYPE": 1, "E_FIELD_COUNT": 1})
    assert table.column("id").to_pylist() == ["007", "12345678901234567890", "8", "9"]
    assert table.column("note").to_pylist() == ['x, "y"', None, None, ""]
    assert table.column("prediction").to_pylist() == ["yes", None, None, "no"]
    assert table.schema.field("probability_no").type == pa.float64()
    assert table.column("probability_no").to_pylist() == [0.25, None, None, 0.25]
    assert [str(one)[:6] for one in table.column("error").to_pylist()] == [
        "None", "E_TYPE", "E_FIEL", "None",
    ]  # fmt: skip


def test_decimal_commas_and_another_encoding_are_read_on_the_way_to_parquet(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("stadt;a\nKöln;9,5\n", encoding="cp1252")
    run(tmp_path / "in.csv", tmp_path / "out.parquet", decimal=",", encoding="cp1252")
    (row,) = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert row == {
        "stadt": "Köln",
        "a": "9,5",
        "prediction": "yes",
        "probability_no": 0.25,
        "probability_yes": 0.75,
        "error": None,
    }


def test_parquet_becomes_csv(tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": ["007", 'x, "y"', None],
            "a": [9.0, None, 1.5],
            "at": pa.array(
                [datetime.datetime(2024, 8, 25, 12, 30), None, datetime.datetime(2024, 8, 25)]
            ),
            "day": [datetime.date(2024, 8, 25), None, None],
            "ok": [True, None, False],
            "kind": pa.array(["u", None, "v"]).dictionary_encode(),
            "list": [[1, 2], None, []],
        }
    )
    pq.write_table(table, tmp_path / "in.parquet")
    summary = run(tmp_path / "in.parquet", tmp_path / "out.csv")
    assert (summary.rows, summary.rejected) == (3, 1)
    header, first, second, third = (tmp_path / "out.csv").read_text().splitlines()
    assert header == "id,a,at,day,ok,kind,list,prediction,probability_no,probability_yes,error"
    assert first == '007,9,2024-08-25 12:30:00,2024-08-25,true,u,"[1,2]",yes,0.25,0.75,'
    assert second.startswith('"x, ""y""",,,,,,,,,,E_NULL: ')
    assert third == ",1.5,2024-08-25 00:00:00,,false,v,[],no,0.25,0.75,"


def test_parquet_that_was_made_of_csv_is_told_with_what_reads_it(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id,a\n007,9\n8,1\n")
    run(tmp_path / "in.csv", tmp_path / "one.parquet", only_predictions=False)
    summary = run(tmp_path / "one.parquet", tmp_path / "two.parquet")
    assert summary.rejected == 2
    assert [note for note in summary.notes if "no text to the model: 'a'; " in note]
    again = run(tmp_path / "one.parquet", tmp_path / "three.parquet", coerce=True)
    assert (again.rejected, [note for note in again.notes if "coerce" in note]) == (0, [])


def test_csv_of_parquet_is_written_as_it_is_asked_for(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [9.5], "=t": ["=1+1"]}), tmp_path / "in.parquet")
    run(
        tmp_path / "in.parquet",
        tmp_path / "out.csv.gz",
        delimiter=";",
        decimal=",",
        excel_safe=True,
    )
    with gzip.open(tmp_path / "out.csv.gz", "rt") as file:
        assert file.read() == (
            "a;'=t;prediction;probability_no;probability_yes;error\n9,5;'=1+1;yes;0,25;0,75;\n"
        )


def test_what_is_said_of_reading_csv_does_not_apply_to_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [9.5]}), tmp_path / "in.parquet")
    with pytest.raises(SettingsError, match="thousands"):
        run(tmp_path / "in.parquet", tmp_path / "out.csv", thousands="'")
    with pytest.raises(FileRefused, match="only CSV and Parquet become each other"):
        run(tmp_path / "in.parquet", tmp_path / "out.jsonl")


def _csv(path: Path) -> None:
    path.write_text("id,a\n" + "".join(f"{row:03d},{row % 10}\n" for row in range(100)))


def _parquet(path: Path) -> None:
    pq.write_table(pa.table({"id": range(100), "a": [row % 10 / 1 for row in range(100)]}), path)


@pytest.mark.parametrize(
    ("source", "target", "make"),
    [("in.csv", "out.parquet", _csv), ("in.parquet", "out.csv", _parquet)],
    ids=["to-parquet", "to-csv"],
)
def test_a_run_that_goes_on_gives_the_same(
    tmp_path: Path, source: str, target: str, make: Callable[[Path], None]
) -> None:
    make(tmp_path / source)
    (tmp_path / "whole").mkdir()
    run(tmp_path / source, tmp_path / "whole" / target, sizes=SMALL)

    def stop(now: BulkProgress) -> None:
        if now.rows > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / source, tmp_path / target, progress=stop, sizes=SMALL)
    summary = run(tmp_path / source, tmp_path / target, resume=True, sizes=SMALL)
    assert any("resumed behind row" in note for note in summary.notes)
    assert (tmp_path / target).read_bytes() == (tmp_path / "whole" / target).read_bytes()


def test_what_pandas_reads_of_both_is_the_same(tmp_path: Path) -> None:
    _csv(tmp_path / "in.csv")
    run(tmp_path / "in.csv", tmp_path / "out.csv")
    run(tmp_path / "in.csv", tmp_path / "out.parquet")
    text: Any = pd.read_csv(tmp_path / "out.csv", dtype={"id": str, "a": str, "error": str})
    binary = pd.read_parquet(tmp_path / "out.parquet")
    assert text.drop(columns="error").equals(
        binary.drop(columns="error").astype(text.dtypes.drop("error"))
    )
    assert binary["error"].isna().all()
