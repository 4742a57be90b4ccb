"""A Parquet output is the input with more columns: for pandas, for Arrow, and for the memory of who reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoreline_client.files.parquet import pandas_note
from tests.support.bulk import SMALL, StubTransport, run

TIMES = pd.date_range("2024-01-01", periods=3, tz="Europe/Vienna")
FRAMES = {
    "counted": pd.DataFrame({"a": [1.5, 9.5, 7.0]}),
    "counted from 5": pd.DataFrame({"a": [1.5, 9.5, 7.0]}, index=pd.RangeIndex(5, 8, name="n")),
    "text": pd.DataFrame({"a": [1.5, 9.5, 7.0]}, index=["x", "y", "z"]),
    "named": pd.DataFrame({"a": [1.5, 9.5, 7.0]}, index=pd.Index(["x", "y", "z"], name="id")),
    "two levels": pd.DataFrame(
        {"a": [1.5, 9.5, 7.0]},
        index=pd.MultiIndex.from_tuples([("x", 1), ("y", 2), ("z", 3)], names=["k", None]),
    ),
    "times": pd.DataFrame(
        {"a": [1.5, 9.5, 7.0], "c": pd.Categorical(["u", "v", None]), "t": TIMES}, index=TIMES
    ),
    "nullable": pd.DataFrame(
        {
            "a": [1.5, 9.5, 7.0],
            "n": pd.array([1, None, 3], dtype="Int64"),
            "b": pd.array([True, None, False], dtype="boolean"),
            "s": pd.array(["x", None, "z"], dtype="string"),
        }
    ),
}


def _scored(tmp_path: Path, frame: pd.DataFrame, **options: Any) -> pd.DataFrame:
    frame.to_parquet(tmp_path / "in.parquet")
    run(tmp_path / "in.parquet", tmp_path / "out.parquet", **options)
    return pd.read_parquet(tmp_path / "out.parquet")


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("sizes", [{}, {"sizes": SMALL}], ids=["whole", "in parts"])
def test_pandas_reads_the_same_frame_with_more_columns(
    tmp_path: Path, name: str, sizes: dict[str, Any]
) -> None:
    frame = FRAMES[name]
    out = _scored(tmp_path, frame, **sizes)
    again = pd.read_parquet(tmp_path / "in.parquet")
    pd.testing.assert_frame_equal(out[list(frame.columns)], again)
    assert list(out["prediction"]) == ["no", "yes", "yes"]
    assert list(out.columns[len(frame.columns) :]) == [
        "prediction",
        "probability_no",
        "probability_yes",
        "error",
    ]


def test_an_index_stays_one_under_another_name_and_goes_when_it_is_dropped(tmp_path: Path) -> None:
    out = _scored(tmp_path, FRAMES["named"], rename={"id": "patient", "a": "amount"})
    assert (out.index.name, list(out.index), list(out["amount"])) == (
        "patient",
        ["x", "y", "z"],
        [1.5, 9.5, 7.0],
    )
    (tmp_path / "out.parquet").unlink()
    out = _scored(tmp_path, FRAMES["named"], drop=("id",))
    assert list(out.index) == [0, 1, 2]
    assert "id" not in out


FIELD = {"name": "0", "field_name": "0", "pandas_type": "float64", "numpy_type": "float64"}


@pytest.mark.parametrize(
    "labels",
    [
        {"column_indexes": [{"name": "of", "pandas_type": "int64", "numpy_type": "int64"}]},
        {"column_indexes": [{"name": None, "pandas_type": "unicode"}] * 2},
    ],
)
def test_names_that_were_no_text_are_text_beside_the_answers(labels: dict[str, Any]) -> None:
    note = {"index_columns": [], "columns": [FIELD], **labels}
    told = json.loads(pandas_note(json.dumps(note).encode(), {"0": "0"}, ["prediction"]))
    assert [level["pandas_type"] for level in told["column_indexes"]] == ["unicode"]
    table = pa.table({"0": [1.0], "prediction": ["yes"]})
    noted = table.replace_schema_metadata({"pandas": json.dumps(told | {"pandas_version": "2"})})
    assert list(noted.to_pandas().columns) == ["0", "prediction"]


@pytest.mark.parametrize("note", [b"no JSON", b"[]", b"{}", b'{"columns": 1, "index_columns": []}'])
def test_a_note_that_is_not_pandas_own_stays_what_it_is(note: bytes) -> None:
    assert pandas_note(note, {"a": "a"}, ["prediction"]) == note


def test_nullability_and_metadata_stay(tmp_path: Path) -> None:
    schema = pa.schema(
        [
            pa.field("a", pa.float64(), nullable=False, metadata={b"unit": b"kg"}),
            pa.field("id", pa.string(), nullable=False),
            pa.field("tag", pa.dictionary(pa.int8(), pa.string())),
        ],
        metadata={b"owner": b"us"},
    )
    table = pa.table(
        [
            [1.5, 9.5],
            ["x", "y"],
            pa.array(["u", None]).dictionary_encode().cast(schema.field(2).type),
        ],
        schema=schema,
    )
    pq.write_table(table, tmp_path / "in.parquet")
    run(tmp_path / "in.parquet", tmp_path / "out.parquet")
    before = pq.read_schema(tmp_path / "in.parquet")
    after = pq.read_schema(tmp_path / "out.parquet")
    assert [after.field(index) for index in range(3)] == [before.field(index) for index in range(3)]
    assert after.field("a").metadata[b"unit"] == b"kg"
    assert after.metadata[b"owner"] == b"us"


def test_a_text_that_is_stored_once_and_repeated_takes_little_memory(tmp_path: Path) -> None:
    rows = 20_000
    text = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), ["x" * 8000])
    table = pa.table({"a": pa.array([9.5] * rows), "text": text})
    # Without the Arrow schema readers take it for plain text.
    pq.write_table(table, tmp_path / "in.parquet", compression="zstd", store_schema=False)
    assert (tmp_path / "in.parquet").stat().st_size < 10_000
    process = psutil.Process()
    before = process.memory_info().rss
    peaks: list[int] = []
    transport = StubTransport()
    summary = run(
        tmp_path / "in.parquet",
        tmp_path / "out.parquet",
        transport=transport,
        progress=lambda _: peaks.append(process.memory_info().rss),
    )
    sizes = [len(request.body) for request, _ in transport.sent]
    assert summary.rows == rows
    assert max(sizes) < 16 << 20
    assert max(peaks) - before < 300 << 20
    out = pq.ParquetFile(tmp_path / "out.parquet")
    assert out.metadata.num_rows == rows


def test_columns_that_nobody_asks_for_are_not_read(tmp_path: Path) -> None:
    text = ["x" * 1000] * 100
    pq.write_table(pa.table({"a": [9.5] * 100, "text": text}), tmp_path / "in.parquet")
    transport = StubTransport()
    run(tmp_path / "in.parquet", tmp_path / "out.parquet", transport=transport, keep=("a",))
    assert pq.read_schema(tmp_path / "out.parquet").names[0] == "a"
    assert max(len(request.body) for request, _ in transport.sent) < 5000
