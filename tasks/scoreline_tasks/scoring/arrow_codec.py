"""Scores an Arrow IPC stream of many rows; the answer is a stream too."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyarrow as pa

from scoreline_artifacts.loading.version import LoadedVersion, Scores
from scoreline_artifacts.schema import Column, ColumnType
from scoreline_artifacts.validation import (
    CheckedRecords,
    Problem,
    Values,
    frame_of_columns,
    missing_column,
)
from scoreline_client.codes import Code
from scoreline_client.errors import RequestRefused
from scoreline_client.options import NO_OPTIONS, RequestOptions
from scoreline_client.protocol.arrow_tables import is_json, read_stream, write_stream
from scoreline_tasks.scoring.json_codec import read_array
from scoreline_tasks.scoring.predict import CodecResult, rules_of, table_result
from scoreline_tasks.scoring.text_values import coerced


class ArrowBody:
    """The rows of an IPC stream."""

    def __init__(
        self, body: bytes, loaded: LoadedVersion, options: RequestOptions = NO_OPTIONS
    ) -> None:
        """Decode a body and hold its rows to the version's schema.

        Raises:
            RequestRefused: E_ARROW_INVALID, E_EMPTY_REQUEST, E_DUPLICATE_COLUMN or E_MISSING_COLUMN.
        """
        self._loaded = loaded
        self._options = options
        self._table = read_table(body)
        self.checked = check_table(self._table, loaded, options)

    def extract(self, record: int) -> bytes:
        """The body of a request that has nothing but this row."""
        data: bytes = write_stream(self._table.slice(record, 1)).to_pybytes()
        return data

    def results(self, scores: Scores, errors: dict[int, Problem]) -> list[CodecResult]:
        """The one result: an IPC stream with a row for each row, in order.

        Raises:
            RequestRefused: E_WIRE; the version does not have an output that the options name.
        """
        result = table_result(
            self.checked,
            scores,
            errors,
            self._loaded,
            self._options,
            count=self._table.num_rows,
            position=lambda row: {"row": self._options.first_row + row},
            write=write_stream,
        )
        return [result]


def read_table(body: bytes) -> Any:
    """The table of an IPC stream, safe to look at.

    Raises:
        RequestRefused: E_ARROW_INVALID or E_EMPTY_REQUEST.
    """
    try:
        table = read_stream(body)
        _ = table.column_names
    # A damaged column name is a UnicodeDecodeError.
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        message = f"the body is no valid Arrow IPC stream: {error}"
        raise RequestRefused(Code.ARROW_INVALID, message[:500]) from error
    if table.num_rows == 0:
        raise RequestRefused(Code.EMPTY_REQUEST, "the frame has no rows; send at least one")
    return table


def check_table(table: Any, loaded: LoadedVersion, options: RequestOptions) -> CheckedRecords:
    """Hold every row of a table to the version's schema.

    Raises:
        RequestRefused: E_DUPLICATE_COLUMN or E_MISSING_COLUMN.
    """
    names = table.column_names
    if loaded.schema is None:
        return CheckedRecords(table.to_pandas(), None, [])
    demanded = set(loaded.schema.demanded)
    for name in loaded.schema.names:
        if names.count(name) > 1:
            message = f"column {name!r} is there {names.count(name)} times"
            raise RequestRefused(Code.DUPLICATE_COLUMN, message, name)
        if name not in names and name in demanded:
            raise RequestRefused(Code.MISSING_COLUMN, missing_column(name, names), name)
    return frame_of_columns(
        {
            column.name: _values(table, column)
            for column in loaded.schema.columns
            if column.name in names
        },
        table.num_rows,
        loaded.schema,
        rules=rules_of(options),
        reading=coerced if options.coerce else None,
    )


def _values(table: Any, column: Column) -> Values:
    """The values of a column: an array where one holds them all, otherwise Python's values."""
    values = table.column(column.name)
    kind = values.type
    if is_json(table.schema.field(column.name)):
        return python_values(table, column.name)
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
        values = values.cast(kind)
    is_number, is_moment = column.type is ColumnType.NUMBER, column.type is ColumnType.DATETIME
    if is_number and pa.types.is_decimal(kind):
        # By their text, which is exact: `12.30` is the float that a file would have given.
        kind = pa.float64()
        values = values.cast(pa.string()).cast(kind)
    if is_moment and pa.types.is_date(kind):
        kind = pa.timestamp("s" if pa.types.is_date32(kind) else "ms")
        values = values.cast(kind)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        # NaN stands for a missing value where a float may be missing.
        if values.null_count == 0 or (is_number and column.nullable):
            return values.to_numpy()
    elif (is_moment and pa.types.is_timestamp(kind)) or (
        column.type is ColumnType.DURATION and pa.types.is_duration(kind)
    ):
        times = values.to_numpy()
        array = pd.array(times, dtype=times.dtype)
        return array.tz_localize("UTC") if getattr(kind, "tz", None) else array
    return _as_python(values)


def python_values(table: Any, name: str) -> list[Any]:
    """The values of a column as Python has them.

    Raises:
        RequestRefused: E_JSON or E_ARROW_INVALID; its texts are not JSON, or not of a value each.
    """
    values = table.column(name)
    if is_json(table.schema.field(name)):
        elements: list[Any] = read_array("[{}]".format(",".join(values.to_pylist())).encode())
        if len(elements) != len(values):
            message = f"column {name!r} has {len(elements)} JSON values in {len(values)} texts"
            raise RequestRefused(Code.ARROW_INVALID, message, name)
        return elements
    return _as_python(values)


def _as_python(values: Any) -> list[Any]:
    def value_of(scalar: Any) -> Any:
        try:
            return scalar.as_py()
        except (ValueError, OverflowError):
            # A time that Python has no value for: no column takes it as it is.
            return scalar

    try:
        listed: list[Any] = values.to_pylist()
    except (ValueError, OverflowError):
        listed = [value_of(scalar) for scalar in values]
    return listed
