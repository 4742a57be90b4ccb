"""Scores an Arrow IPC stream of many rows; the answer is a stream too."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc

from scoreline_artifacts.loading.version import LoadedVersion, Scores
from scoreline_artifacts.schema import Column, ColumnType, Schema
from scoreline_artifacts.validation import (
    CheckedRecords,
    CheckedRows,
    Problem,
    Values,
    frame_of_columns,
    missing_column,
)
from scoreline_client.codes import Code
from scoreline_client.errors import RequestRefused
from scoreline_client.options import NO_OPTIONS, RequestOptions
from scoreline_client.protocol.arrow_tables import is_json, json_field, widened, write_stream
from scoreline_client.protocol.names import STAND_IN_TEXT, STAND_IN_TYPE
from scoreline_tasks.scoring.json_codec import read_array
from scoreline_tasks.scoring.limits import DEFAULT_LIMITS, VALUE_BYTES, Limits
from scoreline_tasks.scoring.predict import CodecResult, rules_of, table_result
from scoreline_tasks.scoring.text_values import coerced

_STAND_IN_BYTES = 400
"""Bytes that what stands for a value takes, where a column is of a type that is not read."""


class ArrowBody:
    """The rows of an IPC stream."""

    def __init__(
        self,
        body: bytes,
        loaded: LoadedVersion,
        options: RequestOptions = NO_OPTIONS,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        """Decode a body and hold its rows to the version's schema.

        Raises:
            RequestRefused: as `read_table`, or E_JSON.
        """
        self._loaded = loaded
        self._options = options
        self._table = read_table(body, loaded, limits)
        self._body_bytes = len(body)
        self.checked = check_table(self._table, loaded, options, limits)

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
            body_bytes=self._body_bytes,
            position=lambda row: {"row": self._options.first_row + row},
            write=write_stream,
        )
        return [result]


def read_table(body: bytes, loaded: LoadedVersion, limits: Limits) -> Any:
    """The columns of an IPC stream that a version knows, safe to look at.

    Raises:
        RequestRefused: E_ARROW_INVALID, E_EMPTY_REQUEST, E_TOO_LARGE, E_DUPLICATE_COLUMN or E_MISSING_COLUMN.
    """
    try:
        limits.check_records(count_rows(body))
        # Its arrays are views of the body: nothing is decoded yet.
        table = pa.ipc.open_stream(body).read_all()
        names = Counter(table.column_names)
        if table.num_rows == 0:
            raise RequestRefused(Code.EMPTY_REQUEST, "the frame has no rows; send at least one")
        if loaded.schema is not None:
            demanded, columns = set(loaded.schema.demanded), loaded.schema.names
            for name in columns:
                if names[name] > 1:
                    message = f"column {name!r} is there {names[name]} times"
                    raise RequestRefused(Code.DUPLICATE_COLUMN, message, name)
                if name not in names and name in demanded:
                    raise RequestRefused(Code.MISSING_COLUMN, missing_column(name, names), name)
            limits.check_values(table.num_rows, sum(name not in names for name in columns))
            # Nobody looks at the other columns.
            table = table.select([name for name in columns if name in names])
        for index, field in enumerate(table.schema):
            if not _is_read(field.type):
                limits.check_unpacked(_STAND_IN_BYTES * table.num_rows)
                kind = str(field.type)[:40]
                stand_in = orjson.dumps({STAND_IN_TYPE: kind, STAND_IN_TEXT: f"<{kind}>"}).decode()
                column = pa.repeat(stand_in, table.num_rows)
                table = table.set_column(index, json_field(field.name), column)
        table.validate()
        limits.check_unpacked(table.nbytes)  # many columns may lie in the same bytes
        # Arrow reads buffers without looking; a corrupt one would end this process.
        table.validate(full=True)
        limits.check_unpacked(sum(map(_unpacked_bytes, table.columns)))
        return widened(table)
    # A damaged column name is a UnicodeDecodeError.
    except (OSError, UnicodeDecodeError, struct.error, pa.ArrowException) as error:
        message = f"the body is no valid Arrow IPC stream: {error}"
        raise RequestRefused(Code.ARROW_INVALID, message[:500]) from error


def check_table(
    table: Any, loaded: LoadedVersion, options: RequestOptions, limits: Limits
) -> CheckedRecords:
    """Hold every row of a table to the version's schema.

    Raises:
        RequestRefused: E_JSON or E_ARROW_INVALID, as `python_values`.
    """
    if loaded.schema is None:
        return CheckedRecords(CheckedRows.of(table.to_pandas()), None, [])
    return frame_of_columns(
        _Columns(table, loaded.schema, limits),
        table.num_rows,
        loaded.schema,
        rules=rules_of(options, limits),
        reading=coerced if options.coerce else None,
    )


# What a stream may hold


def count_rows(body: bytes) -> int:
    """How many rows a stream has by the heads of its batches, of which none is decoded.

    Raises:
        pa.ArrowInvalid: its buffers are compressed, or a dictionary grows; clients send neither, and a small stream
            could become any amount of memory.
        OSError, struct.error, pa.ArrowException: the stream is damaged.
    """
    rows = 0
    for message in pa.ipc.MessageReader.open_stream(body):
        data = memoryview(message.metadata)
        head = _target(data, _field(data, _target(data, 0), 2))
        if message.type == "dictionary":
            if (grows := _field(data, head, 2)) and data[grows]:
                raise pa.ArrowInvalid("a dictionary that grows is not read; send it whole")
            head = _target(data, _field(data, head, 1))
        elif message.type != "record batch":
            continue
        if _field(data, head, 3):
            raise pa.ArrowInvalid("compressed buffers are not read; write the stream without")
        if message.type == "record batch" and (length := _field(data, head, 0)):
            rows += struct.unpack_from("<q", data, length)[0]
    return rows


def _field(data: memoryview, table: int, number: int) -> int:
    """Where a field is in a table of FlatBuffers, the format of a message's head; 0 where it is left out.

    Arrow has verified the head, so whatever it says is within it.
    """
    vtable = table - struct.unpack_from("<i", data, table)[0]
    size, at = struct.unpack_from("<H", data, vtable)[0], 4 + 2 * number
    offset = struct.unpack_from("<H", data, vtable + at)[0] if at < size else 0
    return int(table + offset) if offset else 0


def _target(data: memoryview, at: int) -> int:
    """Where a reference of FlatBuffers leads."""
    return int(at + struct.unpack_from("<I", data, at)[0])


@lru_cache(maxsize=64)
def _is_read(kind: Any) -> bool:
    """Whether values of a type may be what a column takes.

    Values of other types are not looked at: in a list, a view or a run, a few bytes may stand for any number of values.
    """
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if "interval" in str(kind):  # numbers to Arrow, and some are nothing to pyarrow
        return False
    return _is_text(kind) or any(
        is_such(kind) for is_such in (pa.types.is_primitive, pa.types.is_decimal, pa.types.is_null)
    )


@lru_cache(maxsize=64)
def _is_text(kind: Any) -> bool:
    return any(
        is_such(kind)
        for is_such in (
            pa.types.is_string,
            pa.types.is_large_string,
            pa.types.is_binary,
            pa.types.is_large_binary,
            pa.types.is_fixed_size_binary,
        )
    )


def _unpacked_bytes(column: Any) -> int:
    """About how much memory the values of a column take in the pipeline's frame."""
    size = 0
    for values in column.chunks:
        size += VALUE_BYTES * len(values) + values.nbytes
        if pa.types.is_boolean(values.type) and not values.null_count:
            size -= (VALUE_BYTES - 2) * len(values)
        elif pa.types.is_dictionary(values.type) and _is_text(values.dictionary.type):
            # A text is stored once, and repeated wherever it occurs.
            size += pc.sum(pc.binary_length(values.dictionary).take(values.indices)).as_py() or 0
    return size


# Values


class _Columns(Mapping[str, Values]):
    """The columns of a table, each read when it is asked for: as Python's values they take much memory."""

    def __init__(self, table: Any, schema: Schema, limits: Limits) -> None:
        self._table = table
        self._limits = limits
        names = frozenset(table.column_names)
        self._columns = {column.name: column for column in schema.columns if column.name in names}

    def __getitem__(self, name: str) -> Values:
        return _values(self._table, self._columns[name], self._limits)

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


def _values(table: Any, column: Column, limits: Limits) -> Values:
    """The values of a column: an array where one holds them all, otherwise Python's values."""
    values = table.column(column.name)
    kind = values.type
    if is_json(table.schema.field(column.name)):
        return python_values(table, column.name, limits)
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


def python_values(table: Any, name: str, limits: Limits) -> list[Any]:
    """The values of a column as Python has them.

    Raises:
        RequestRefused: E_JSON, E_TOO_LARGE or E_ARROW_INVALID; its texts are no JSON, too large, or not one value each.
    """
    values = table.column(name)
    if is_json(table.schema.field(name)):
        text = "[{}]".format(",".join(values.to_pylist())).encode()
        if len(text) > limits.together_bytes:
            limits.check_json(text)
        elements: list[Any] = read_array(text)
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
