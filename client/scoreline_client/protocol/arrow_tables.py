"""Tables and data frames as Arrow IPC streams, between client and worker.

Integers travel only as wide as their values need, and a column without any value as nulls: most of the
bytes of 64-bit counts are zeros. That is as small as lz4 makes them, in a fraction of its time, and can be
read without lz4. The field's metadata hold the column's own type under `scoreline:type`; `read_stream`
gives the table that was written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc

from scoreline_client.codes import Code
from scoreline_client.errors import EmptyRequest, RequestRefused
from scoreline_client.protocol.json_records import encode_value
from scoreline_client.settings import ClientSettings

if TYPE_CHECKING:
    import pandas as pd

SLICE_ROWS, SLICE_ROWS_AT_LEAST = 50_000, 2500
"""Rows of a frame's slices, each of which is a request."""
SLICES_AT_LEAST = 4
"""A frame is cut into at least so many slices, if it is not very small, so that processes share it."""
SMALL_BYTES = 1 << 16
"""Tables that are smaller travel as they are."""
MOST_NULLS = 1 << 24
"""Values of columns that travel as nulls; they cost a stream nothing, but its reader memory."""
_NO_ARROW = (pa.ArrowException, TypeError, ValueError, OverflowError)
"""What pyarrow raises for values that it cannot hold."""
_TYPE, _JSON = b"scoreline:type", b"json"
_SIGNED = (pa.int8(), pa.int16(), pa.int32(), pa.int64())
_UNSIGNED = (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())
_TYPES_BY_NAME = {
    str(data_type): data_type for data_type in (*_SIGNED, *_UNSIGNED, pa.float64(), pa.string())
}


def write_stream(table: Any) -> Any:
    """A table's stream, as an Arrow buffer."""
    narrow = table if table.nbytes < SMALL_BYTES else _narrowed(table)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, narrow.schema) as writer:
        writer.write_table(narrow)
    return sink.getvalue()


def read_stream(data: Any) -> Any:
    """The table that was written, safe to look at.

    Raises:
        OSError, UnicodeDecodeError, pa.ArrowException: the bytes are no valid stream.
    """
    table = pa.ipc.open_stream(data).read_all()
    # Arrow reads buffers without looking; a corrupt one would end this process.
    table.validate(full=True)
    return widened(table)


def encode_frame(
    frame: pd.DataFrame,
    most_rows: int = ClientSettings.max_request_records,
    most_bytes: int = ClientSettings.max_request_bytes,
) -> Iterator[bytes]:
    """The rows of a pandas frame as streams of at most so many rows and bytes, each encoded when it is taken.

    A column of values that Arrow cannot hold travels as JSON, value by value: only the worker knows whether
    the model needs it, and which of its values are wrong.

    Raises:
        EmptyRequest: the frame has no rows.
        RequestRefused: two columns have the same name.
    """
    names = list(frame.columns)
    duplicates = sorted({str(name) for name, count in Counter(names).items() if count > 1})
    if duplicates:
        message = f"the frame has columns more than once: {duplicates}"
        raise RequestRefused(Code.DUPLICATE_COLUMN, message, duplicates[0])
    if len(frame) == 0:
        raise EmptyRequest(Code.EMPTY_REQUEST, "the frame has no rows; give at least one")
    count = max(SLICES_AT_LEAST, -(-len(frame) // SLICE_ROWS))
    size = min(most_rows, max(SLICE_ROWS_AT_LEAST, -(-len(frame) // count)))
    slices = [frame.iloc[start : start + size] for start in reversed(range(0, len(frame), size))]
    while slices:
        rows = slices.pop()
        try:
            table = pa.Table.from_pandas(rows, preserve_index=False, nthreads=1)
        except _NO_ARROW:
            table = None
        if table is None or any(map(_is_doubtful, table.schema.types)):
            columns = [_column_of(rows[name]) for name in names]
            fields = [field for field, _ in columns]
            table = pa.table([column for _, column in columns], schema=pa.schema(fields))
        stream = write_stream(table)
        if stream.size > most_bytes and len(rows) > 1:
            middle = len(rows) // 2
            slices += [rows.iloc[middle:], rows.iloc[:middle]]
            continue
        yield stream.to_pybytes()


def is_json(field: Any) -> bool:
    """Whether the texts of a column are JSON, each that of a value."""
    return (field.metadata or {}).get(_TYPE) == _JSON


def json_field(name: str) -> Any:
    """The field of a column whose texts are JSON, each that of a value."""
    return pa.field(name, pa.string(), metadata={_TYPE: _JSON})


def _column_of(series: pd.Series[Any]) -> tuple[Any, Any]:
    """A column and its field; as JSON, if Arrow cannot hold its values as what they are."""
    name = str(series.name)
    try:
        column = pa.Array.from_pandas(series)
    except _NO_ARROW:
        column = None
    if column is not None and not _is_doubtful(column.type):
        return pa.field(name, column.type), column
    texts = [encode_value(value).decode() for value in series.tolist()]
    return json_field(name), pa.array(texts, pa.string())


def _is_doubtful(data_type: Any) -> bool:
    """Whether values of other types may have become one of these: text among bytes, periods as numbers."""
    return isinstance(data_type, pa.BaseExtensionType) or pa.types.is_binary(data_type)


def decode_frame(streams: Sequence[bytes | memoryview], index: Any) -> pd.DataFrame:
    """The answers' columns of all slices of a frame, with that frame's index.

    Raises:
        RequestRefused: E_INTERNAL; workers of two releases answered with different columns.
    """
    import pandas as pd

    tables = [read_stream(stream) for stream in streams]
    if any(table.column_names != tables[0].column_names for table in tables):
        message = "slices of the frame have different columns: workers of two releases answer"
        raise RequestRefused(Code.INTERNAL, f"{message}; try again when all have the same")
    if len(tables) > 1:
        tables = [untyped_where_empty(table) for table in tables]
    table = pa.concat_tables(tables, promote_options="permissive")
    frame: pd.DataFrame = table.to_pandas()
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_integer(column.type) and column.null_count:
            # pandas makes fractions of whole numbers beside missing ones, and rounds the long ones.
            dtype = str(column.type).replace("int", "Int").replace("uI", "UI")
            frame[name] = pd.array(column.to_pylist(), dtype=dtype)
    frame.index = index
    return frame


def untyped_where_empty(table: Any) -> Any:
    """The table, with the type null for columns without a value: it goes with any other type.

    Where a version rejects all rows of a request, the type of its predictions is a guess.
    """
    columns = [
        pa.nulls(len(column)) if column.null_count == len(column) else column
        for column in table.columns
    ]
    return pa.table(columns, names=table.column_names)


def _narrowed(table: Any) -> Any:
    columns, fields = [], []
    for field, column in zip(table.schema, table.columns, strict=True):
        data_type = column.type
        if str(data_type) in _TYPES_BY_NAME and column.null_count == len(column):
            data_type = pa.null()
        for widths in (_SIGNED, _UNSIGNED):
            if data_type in widths:
                low, high = pc.min_max(column).as_py().values()
                data_type = next(
                    width for width in widths if _holds(width, low) and _holds(width, high)
                )
        if data_type != field.type:
            column = pa.nulls(len(column)) if data_type == pa.null() else column.cast(data_type)
            metadata = {**(field.metadata or {}), _TYPE: str(field.type).encode()}
            field = field.with_type(data_type).with_metadata(metadata)
        columns.append(column)
        fields.append(field)
    return pa.table(columns, schema=pa.schema(fields, metadata=table.schema.metadata))


def _holds(integer_type: Any, number: int) -> bool:
    bits: int = integer_type.bit_width
    if pa.types.is_unsigned_integer(integer_type):
        return number < 1 << bits
    return -1 << (bits - 1) <= number < 1 << (bits - 1)


def widened(table: Any) -> Any:
    """The table with the types that its columns had before they were narrowed.

    Raises:
        pa.ArrowException: a column cannot have been narrowed to the type that it has.
    """
    columns, fields = [], []
    nulls = 0
    for field, column in zip(table.schema, table.columns, strict=True):
        metadata = dict(field.metadata or {})
        name = metadata.pop(_TYPE, None)
        if name == _JSON:
            # Texts stay what they are: only the column that needs them makes values of them.
            if field.type != pa.string() or column.null_count:
                raise pa.ArrowInvalid(f"{len(column)} values of {field.type} cannot be JSON")
        elif name is not None:
            data_type = _TYPES_BY_NAME.get(name.decode())
            nulls += len(column) if field.type == pa.null() else 0
            is_narrower = field.type == pa.null() or any(
                field.type in widths
                and data_type in widths
                and field.type.bit_width <= data_type.bit_width
                for widths in (_SIGNED, _UNSIGNED)
            )
            if data_type is None or not is_narrower or nulls > MOST_NULLS:
                raise pa.ArrowInvalid(f"{len(column)} values of {field.type} cannot be {name!r}")
            column = column.cast(data_type)
            field = field.with_type(data_type).with_metadata(metadata or None)
        columns.append(column)
        fields.append(field)
    return pa.table(columns, schema=pa.schema(fields, metadata=table.schema.metadata))
