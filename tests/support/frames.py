"""The frames that a pipeline gets by each way in: JSON, CSV, an Arrow stream of a Parquet file, a data frame."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from scoreline_artifacts import Schema
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_artifacts.validation import CheckedRecords
from scoreline_client.options import CsvChunk, RequestOptions
from scoreline_client.protocol.arrow_tables import encode_frame, write_stream
from scoreline_client.protocol.json_records import encode_records
from scoreline_tasks.scoring.arrow_codec import ArrowBody
from scoreline_tasks.scoring.csv_codec.codec import CsvBody
from scoreline_tasks.scoring.json_codec import JsonBody, read_records
from tests.support.models import Predictor, column_x


def version_with(schema: Schema) -> LoadedVersion:
    """A version with a schema, whose pipeline is not asked."""
    return LoadedVersion.of(Predictor(column_x), "m", 1, schema)


def by_json(frame: pd.DataFrame, schema: Schema, **options: Any) -> CheckedRecords:
    """As `predict_many(frame.to_dict("records"))`."""
    encoded = encode_records(frame.to_dict("records"))
    assert encoded.errors == {}
    records = read_records(encoded.body)
    return JsonBody([records], version_with(schema), RequestOptions(**options)).checked


def by_csv(frame: pd.DataFrame, schema: Schema, **options: Any) -> CheckedRecords:
    """As a file that pandas wrote."""
    text = frame.to_csv(index=False)
    return by_csv_text(text, schema, **options)


def by_csv_text(text: str, schema: Schema, **options: Any) -> CheckedRecords:
    """As a file with a header of plain names."""
    header, _, rows = text.partition("\n")
    chunk = CsvChunk(columns=header.split(","), first_row=1, first_line=2, **options)
    return CsvBody(chunk.encode(rows.encode()), version_with(schema)).checked


def by_parquet(frame: pd.DataFrame, schema: Schema, **options: Any) -> CheckedRecords:
    """As a Parquet file that pandas wrote."""
    file = io.BytesIO()
    frame.to_parquet(file)
    file.seek(0)
    table = pa.parquet.read_table(file).select(list(frame.columns))
    return by_table(table, schema, **options)


def by_table(table: Any, schema: Schema, **options: Any) -> CheckedRecords:
    """As an Arrow table."""
    body = write_stream(table).to_pybytes()
    return ArrowBody(body, version_with(schema), RequestOptions(**options)).checked


def by_frame(frame: pd.DataFrame, schema: Schema, **options: Any) -> CheckedRecords:
    """As `predict_frame(frame)`."""
    (body,) = encode_frame(frame)
    return ArrowBody(body, version_with(schema), RequestOptions(**options)).checked


WAYS: Mapping[str, Callable[..., CheckedRecords]] = {
    "json": by_json,
    "csv": by_csv,
    "parquet": by_parquet,
    "frame": by_frame,
}
