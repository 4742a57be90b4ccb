"""The rows of a file, for those who write the output themselves, and many records with a window."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoreline_client import (
    BulkOptions,
    Client,
    FileRefused,
    Prediction,
    ScoredRow,
)
from scoreline_client.files.chunks import scored_parts
from scoreline_client.options import Policy
from scoreline_client.testing import FakeScoreline
from scoreline_client.transport.dispatcher import Transport
from tests.support.bulk import LOADED, StubTransport

YES = Prediction("yes", {"no": 0.25, "yes": 0.75}, "threshold", 4)


def _rows(source: Path, **options: Any) -> list[ScoredRow]:
    async def read() -> list[ScoredRow]:
        stub = cast("Transport", StubTransport())
        parts = scored_parts(stub, "threshold", str(source), BulkOptions(**options))
        return [row async for part in parts for row in part]

    return asyncio.run(read())


def test_a_row_of_csv_has_its_text_and_a_typed_prediction(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text('id,a\n007,9\n"1,2",x\n3\n')
    good, bad, short = _rows(source)
    assert good == ScoredRow(1, {"id": "007", "a": "9"}, YES)
    assert (bad.record, bad.prediction.value) == ({"id": "1,2", "a": "x"}, None)
    assert bad.prediction.error is not None
    assert (
        bad.prediction.error.code,
        bad.prediction.error.column,
        bad.prediction.error.record,
    ) == (
        "E_TYPE",
        "a",
        1,
    )
    assert (short.row, short.record["id"]) == (3, "3")
    assert short.prediction.error is not None
    assert short.prediction.error.code == "E_FIELD_COUNT"


def test_a_line_of_json_has_its_values(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"id":[7],"a":9}\nnothing\n')
    good, bad = _rows(source, out_of_range=Policy.IGNORE)
    assert good == ScoredRow(1, {"id": [7], "a": 9}, YES)
    assert bad.record == {}
    assert bad.prediction.error is not None
    assert bad.prediction.error.code == "E_JSON"


def test_a_row_of_parquet_has_its_values(tmp_path: Path) -> None:
    source = tmp_path / "in.parquet"
    pq.write_table(pa.table({"id": [b"x", b"y"], "a": [9.0, None]}), source)
    good, bad = _rows(source)
    assert good == ScoredRow(1, {"id": b"x", "a": 9.0}, YES)
    assert bad.prediction.error is not None
    assert bad.prediction.error.code == "E_NULL"


def test_a_record_has_the_columns_that_were_asked_for(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("id,a\n1,9\n")
    assert _rows(source, keep=("id",))[0].record == {"id": "1"}
    assert _rows(source, only_predictions=True)[0] == ScoredRow(1, {}, YES)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with FakeScoreline(models={}) as fake:
        fake._worker.serve(LOADED)
        yield fake.client()


def test_a_caller_without_an_event_loop_gets_the_same_rows(client: Client, tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("id,a\n" + "1,9\n" * 5000)
    rows = list(client.score_rows("threshold", source))
    assert [row.row for row in rows] == list(range(1, 5001))
    assert {row.prediction.value for row in rows} == {"yes"}


def test_a_caller_may_stop_in_the_middle(client: Client, tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("id,a\n" + "1,9\n" * 200_000)
    rows = client.score_rows("threshold", source)
    assert next(rows).row == 1
    rows.close()  # type: ignore[attr-defined]


def test_a_file_that_cannot_be_scored_is_refused_at_the_first_row(
    client: Client, tmp_path: Path
) -> None:
    source = tmp_path / "in.csv"
    source.write_text("id,b\n1,9\n")
    with pytest.raises(FileRefused, match="missing: 'a'"):
        next(client.score_rows("threshold", source))


def test_a_frame_of_many_rows_keeps_its_order_and_index(client: Client) -> None:
    frame = pd.DataFrame({"a": [float(row % 11) for row in range(30_000)]}, index=range(5, 30_005))
    found = client.predict_frame("threshold", frame)
    assert found.index.equals(frame.index)
    assert ((found["prediction"] == "yes") == (frame["a"] > 5)).all()
