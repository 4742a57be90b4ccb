"""A table that was sent narrow is the table that was written."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreline_client.protocol.arrow_tables import MOST_NULLS, read_stream, write_stream

ROWS = 10_000
WHOLE = [
    pa.int8(),
    pa.int16(),
    pa.int32(),
    pa.int64(),
    pa.uint8(),
    pa.uint16(),
    pa.uint32(),
    pa.uint64(),
]


def _again(table: Any) -> Any:
    return read_stream(write_stream(table))


def _column(kind: Any, values: list[Any]) -> Any:
    """So many values that they travel narrow."""
    return pa.array((values * ROWS)[:ROWS], kind)


@given(st.sampled_from(WHOLE), st.data())
def test_whole_numbers_come_back_with_their_type(kind: Any, data: st.DataObject) -> None:
    is_unsigned = str(kind).startswith("u")
    least = 0 if is_unsigned else -(1 << (kind.bit_width - 1))
    most = (1 << (kind.bit_width - (not is_unsigned))) - 1
    numbers = st.integers(least, most) | st.integers(max(least, -300), min(most, 300))
    values = data.draw(st.lists(st.none() | numbers, min_size=1, max_size=5))
    table = pa.table({"x": _column(kind, values), "y": _column(pa.float64(), [0.1])})
    assert _again(table).equals(table)


@pytest.mark.parametrize(
    "column",
    [
        pa.nulls(ROWS, pa.string()),
        pa.nulls(ROWS, pa.float64()),
        pa.nulls(ROWS, pa.int64()),
        pa.nulls(ROWS, pa.timestamp("us", "UTC")),
        pa.nulls(ROWS),
        _column(pa.string(), ["a", None]),
        _column(pa.bool_(), [True, False]),
        _column(pa.timestamp("ns"), [0, 1]),
        _column(pa.string(), ["a", "b"]).dictionary_encode(),
    ],
    ids=lambda column: f"{column.type}",
)
def test_any_column_comes_back(column: Any) -> None:
    table = pa.table({"x": column, "y": _column(pa.float64(), [0.5])})
    found = _again(table)
    assert found.schema == table.schema
    assert found.to_pydict() == table.to_pydict()


def test_what_a_field_and_a_table_say_comes_back() -> None:
    field = pa.field("x", pa.int64(), metadata={b"unit": b"kg"})
    schema = pa.schema([field, ("y", pa.int64())], metadata={b"from": b"here"})
    table = pa.table([_column(pa.int64(), [1]), _column(pa.int64(), [2])], schema=schema)
    assert _again(table).schema.equals(schema, check_metadata=True)


def test_zeros_do_not_travel() -> None:
    table = pa.table({"x": _column(pa.int64(), [1, 2])})
    assert write_stream(table).size < table.nbytes / 7


def test_the_bounds_of_a_type_are_in_it() -> None:
    table = pa.table({"x": _column(pa.int64(), [-128, 127]), "y": _column(pa.int64(), [-129, 0])})
    widths = [str(one) for one in pa.ipc.open_stream(write_stream(table)).schema.types]
    assert widths == ["int8", "int16"]


def test_a_small_table_travels_as_it_is() -> None:
    table = pa.table({"x": [1, 2]})
    assert pa.ipc.open_stream(write_stream(table)).schema == table.schema


@pytest.mark.parametrize("said", [b"list<item: int64>", b"\xff", b"", b"int63"])
def test_a_type_that_nobody_writes_is_refused(said: bytes) -> None:
    field = pa.field("x", pa.int8(), metadata={b"scoreline:type": said})
    table = pa.table([pa.array([1], pa.int8())], schema=pa.schema([field]))
    with pytest.raises((pa.ArrowInvalid, UnicodeDecodeError)):
        read_stream(write_stream(table))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (pa.int64(), b"int8"), (pa.int8(), b"uint64"), (pa.uint8(), b"int64"),
        (pa.string(), b"int64"), (pa.int8(), b"double"), (pa.float64(), b"string"),
    ],
)  # fmt: skip
def test_a_column_becomes_nothing_else_but_wider(kind: Any, said: bytes) -> None:
    field = pa.field("x", kind, metadata={b"scoreline:type": said})
    table = pa.table([pa.nulls(1, kind)], schema=pa.schema([field]))
    with pytest.raises(pa.ArrowInvalid):
        read_stream(write_stream(table))


def test_a_few_bytes_do_not_become_gigabytes() -> None:
    said = {b"scoreline:type": b"int64"}
    fields = [pa.field(name, pa.null(), metadata=said) for name in "ab"]
    table = pa.table([pa.nulls(MOST_NULLS // 2 + 1)] * 2, schema=pa.schema(fields))
    with pytest.raises(pa.ArrowInvalid):
        read_stream(write_stream(table))
