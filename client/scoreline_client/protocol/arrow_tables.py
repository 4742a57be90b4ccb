"""Tables as Arrow IPC streams on their way between client and worker.

Whole numbers travel only as wide as they need to be, and a column in which nothing is as none at all:
most of the bytes of a frame with 64-bit counts in it are zeros. What a column's type really is its
field says, under `scoreline:type`; who reads the stream gets the table that was written.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc

SMALL_BYTES = 1 << 16
"""Tables that are smaller travel as they are."""
MOST_NULLS = 1 << 24
"""Values of columns that travelled as none; they cost a stream nothing, and who reads it memory."""
_TYPE = b"scoreline:type"
_SIGNED = (pa.int8(), pa.int16(), pa.int32(), pa.int64())
_UNSIGNED = (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())
_KNOWN = {str(kind): kind for kind in (*_SIGNED, *_UNSIGNED, pa.float64(), pa.string())}


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
    return _widened(table)


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
        kind = _narrowest(column)
        if kind != field.type:
            column = pa.nulls(len(column)) if kind == pa.null() else column.cast(kind)
            said = {**(field.metadata or {}), _TYPE: str(field.type).encode()}
            field = field.with_type(kind).with_metadata(said)
        columns.append(column)
        fields.append(field)
    return pa.table(columns, schema=pa.schema(fields, metadata=table.schema.metadata))


def _narrowest(column: Any) -> Any:
    kind = column.type
    if str(kind) in _KNOWN and column.null_count == len(column):
        return pa.null()
    for widths in (_SIGNED, _UNSIGNED):
        if kind in widths:
            low, high = pc.min_max(column).as_py().values()
            return next(one for one in widths if _holds(one, low) and _holds(one, high))
    return kind


def _holds(kind: Any, number: int) -> bool:
    bits: int = kind.bit_width
    if pa.types.is_unsigned_integer(kind):
        return number < 1 << bits
    return -1 << (bits - 1) <= number < 1 << (bits - 1)


def _widened(table: Any) -> Any:
    columns, fields = [], []
    nulls = 0
    for field, column in zip(table.schema, table.columns, strict=True):
        said = dict(field.metadata or {})
        name = said.pop(_TYPE, None)
        if name is not None:
            kind = _KNOWN.get(name.decode())
            nulls += len(column) if field.type == pa.null() else 0
            if kind is None or not _is_narrower(field.type, kind) or nulls > MOST_NULLS:
                raise pa.ArrowInvalid(f"{len(column)} values of {field.type} cannot be {name!r}")
            column = column.cast(kind)
            field = field.with_type(kind).with_metadata(said or None)
        columns.append(column)
        fields.append(field)
    return pa.table(columns, schema=pa.schema(fields, metadata=table.schema.metadata))


def _is_narrower(kind: Any, wide: Any) -> bool:
    whole = [widths for widths in (_SIGNED, _UNSIGNED) if kind in widths and wide in widths]
    return kind == pa.null() or (bool(whole) and bool(kind.bit_width <= wide.bit_width))
