"""Small bodies do not become gigabytes: each is answered or refused within a bounded amount of memory."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pytest

from scoreline_artifacts import Schema
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_client.options import CsvChunk
from scoreline_client.protocol.keys import Lane
from scoreline_client.protocol.messages import Answer, Codec, Request
from scoreline_tasks.scoring.batch import Batcher
from scoreline_tasks.scoring.limits import Limits
from tests.support.models import Classifier, Predictor, column_x
from tests.support.scoring import OneVersion, answer_to, entry_of

MOST_BYTES = 300 << 20
"""What a body of 16 MiB may take beside what the process has."""
LIMIT = 1 << 24
SMALL = Limits().together_bytes
"""The most bytes that a request may have."""
SCHEMA = Schema.infer(pd.DataFrame({"x": [1.5], "t": ["a"]}), optional=["t"])
WIDE = Schema.infer(
    pd.DataFrame({f"c{number}": [1.5] for number in range(1000)}),
    optional=[f"c{number}" for number in range(1000)],
)


def _json(body: bytes) -> Request:
    return Request(id="0" * 32, model="m", body=body[:LIMIT])


def _array(element: bytes, count: int = LIMIT) -> Request:
    """An array of as many equal elements as fit."""
    count = min(count, (LIMIT - 1) // (len(element) + 1))
    return _json(b"[" + b",".join([element] * count) + b"]")


def _arrow(table: Any, compression: str | None = None, **options: Any) -> Request:
    sink = pa.BufferOutputStream()
    settings = pa.ipc.IpcWriteOptions(compression=compression, **options)
    with pa.ipc.new_stream(sink, table.schema, options=settings) as writer:
        writer.write_table(table)
    return Request(id="0" * 32, model="m", codec=Codec.ARROW, body=sink.getvalue().to_pybytes())


def _csv(rows: bytes, **fields: Any) -> Request:
    head = CsvChunk(**{"columns": ["x"], "first_row": 1, "first_line": 2, **fields})
    return Request(id="0" * 32, model="m", codec=Codec.CSV, body=head.encode(rows)[:LIMIT])


def _nulls(count: int) -> Any:
    return pa.table({"x": pa.nulls(count)})


def _nulls_without_end() -> Request:
    few, many = (count.to_bytes(8, "little") for count in (1_000_003, 10**12))
    return replace(request := _arrow(_nulls(1_000_003)), body=request.body.replace(few, many))


def _growing_dictionary() -> Request:
    """Batches that each add one text to a dictionary of a megabyte."""
    texts = ["a" * 100_000 + str(number) for number in range(10)]
    sink = pa.BufferOutputStream()
    schema = pa.schema([("x", pa.dictionary(pa.int32(), pa.string()))])
    settings = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
    with pa.ipc.new_stream(sink, schema, options=settings) as writer:
        for number in range(2000):
            texts.append(str(number))
            indices = pa.array([0], pa.int32())
            column = pa.DictionaryArray.from_arrays(indices, pa.array(texts))
            writer.write_batch(pa.record_batch([column], schema=schema))
    return Request(id="0" * 32, model="m", codec=Codec.ARROW, body=sink.getvalue().to_pybytes())


def _same_bytes_in_each_column() -> Request:
    """A thousand columns, which lie in the same megabyte."""
    rows = 100_000
    values = pa.array(np.zeros(rows, np.int64))
    shared = pa.table({f"c{number}": values for number in range(1000)})
    body = _arrow(shared.slice(0, 1)).body
    return Request(id="0" * 32, model="m", codec=Codec.ARROW, body=body)


def _dictionary() -> Any:
    words = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), ["a" * 100_000])
    return pa.table({"x": pa.array([1.0] * 20_000), "t": words})


def _lists() -> Any:
    """A row that is a list of a hundred million nulls, which have no bytes."""
    child = pa.nulls(100_000_000)
    return pa.table({"x": pa.ListArray.from_arrays(pa.array([0, 100_000_000], pa.int32()), child)})


def _views() -> Any:
    """Rows that are all the same text, of which a view stores one."""
    if int(pa.__version__.partition(".")[0]) < 19:
        pytest.skip("pyarrow before 19 reads views of others, and makes none of several buffers")
    text = pa.array(["a" * 100_000], pa.string_view())
    view = pa.StringViewArray.from_buffers if hasattr(pa, "StringViewArray") else None
    buffers = text.buffers()
    views = pa.py_buffer(bytes(buffers[1]) * 50_000)
    assert view is not None
    array = pa.Array.from_buffers(pa.string_view(), 50_000, [None, views, *buffers[2:]])
    return pa.table({"x": pa.array([1.0] * 50_000), "t": array})


BODIES: dict[str, Callable[[], Request]] = {
    "arrow: a null column": lambda: _arrow(_nulls(1_000_000)),
    "arrow: a null column of 64 bits": _nulls_without_end,
    "arrow: compressed zeros": lambda: _arrow(pa.table({"x": np.zeros(30_000_000)}), "zstd"),
    "arrow: a dictionary": lambda: _arrow(_dictionary()),
    "arrow: a dictionary that grows": _growing_dictionary,
    "arrow: a list of nulls": lambda: _arrow(_lists()),
    "arrow: views of one text": lambda: _arrow(_views()),
    "arrow: runs": lambda: _arrow(
        pa.table({"x": pa.RunEndEncodedArray.from_arrays([100_000], ["a" * 100_000])})
    ),
    "csv: a field too many": lambda: _csv(b",\n" * (1 << 19)),
    "csv: a field too many, 16 MiB": lambda: _csv(b",\n" * (1 << 23)),
    "csv: a field too many, each kept": lambda: _csv(b"1,2,3\n" * 99_000, columns_out=[0]),
    "csv: no number": lambda: _csv(b"a\n" * (1 << 19)),
    "csv: no number, all told": lambda: _csv(b"a\n" * 100_000, problems=1 << 53),
    "csv: blank lines": lambda: _csv(b"\n" * LIMIT),
    "csv: a column many times": lambda: _csv(b"1" * (1 << 19) + b"\n", columns_out=[0] * 400),
    "csv: short rows of many columns": lambda: _csv(
        b"1\n" * 100_000, columns=["x", *(f"c{number}" for number in range(19_999))]
    ),
    "csv: a head of brackets": lambda: Request(
        id="0" * 32, model="m", codec=Codec.CSV, body=b'{"columns":[' + b"[[]]," * 3_000_000
    ),
    "csv: comments": lambda: _csv(b"#1\n1\n" * (1 << 18), comment="#"),
    "csv: quotes": lambda: _csv(b'"1\n' * (1 << 18)),
    "json: keys without a name": lambda: _array(b'{"":0}'),
    "json: lists in lists": lambda: _array(b"[[]]"),
    "json: lists in lists, decoded at once": lambda: _array(b"[[]]", SMALL // 5),
    "json: keys twice in each, decoded at once": lambda: _array(b'{"":0,"":0}', SMALL // 12),
    "json: texts, decoded at once": lambda: _array(b'"a"', SMALL // 4),
    "json: lists": lambda: _array(b"[]"),
    "json: numbers": lambda: _array(b"0"),
    "json: texts": lambda: _array(b'"a"'),
    "json: objects in a value": lambda: _json(
        b'[{"x":' + b'{"":' * 900 + b"0" + b"}" * 900 + b',"y":[' + b'{"":0},' * 2_300_000 + b"0]}]"
    ),
    "json: keys twice": lambda: _json(b"[{" + b",".join([b'"":0'] * 3_300_000) + b"}]"),
    "json: keys twice in each": lambda: _array(b'{"":0,"":0}'),
    "json: many keys": lambda: _json(
        b"[{" + b",".join(b'"%x":0' % number for number in range(1_600_000)) + b"}]"
    ),
    "json: empty records": lambda: _array(b"{}", 100_000),
    "json: a mark beyond all planes in a long text": lambda: _json(
        orjson.dumps([{"x": "a" * 16_000_000 + "\U0001f600"}])
    ),
    "wide: empty records": lambda: _array(b"{}", 100_000),
    "wide: a column of rows": lambda: _csv(b"1\n" * 100_000, columns=["c0"]),
    "wide: booleans": lambda: _arrow(pa.table({"c0": [True] * 100_000})),
    "options: brackets": lambda: Request(
        id="0" * 32, model="m", body=b"[{}]", options=b"[[]]," * 3_000_000
    ),
    "options: outputs": lambda: Request(
        id="0" * 32,
        model="m",
        codec=Codec.ARROW,
        body=_arrow(pa.table({"x": [1.0]})).body,
        options=b'{"outputs":[' + b",".join([b'"probability"'] * 1_000_000) + b"]}",
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_takes_a_bounded_amount_of_memory(name: str) -> None:
    request = BODIES[name]()
    schema = WIDE if name.startswith("wide") else SCHEMA
    loaded = LoadedVersion.of(Classifier(), "m", 1, schema)
    answer_to(
        Request(id="0" * 32, model="m", body=b"[{}]"), loaded
    )  # what is imported when it is needed
    child = os.fork()
    if not child:
        try:
            used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_DATA, (used + MOST_BYTES,) * 2)
            answer = answer_to(request, loaded)
            os._exit(int((answer.error or {}).get("code") == "E_INTERNAL"))
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize(
    "record",
    [
        b"{" + b",".join(b'"column_%d":%d' % (at, at) for at in range(12)) + b"}",
        b'{"name":"a, b: {c} [d]","town":"Berlin, 10115","note":"' + b"[{:," * 50 + b'"}',
        b'{"a":"b","c":"d","e":1,"f":0.5,"g":null,"h":true}',
        b'{"values":[0.25,0.5,0.75,1.25,2.5],"tags":["a","b"]}',
    ],
)
def test_ordinary_records_may_fill_a_request(record: bytes) -> None:
    count = min(150_000, (LIMIT - 2) // (len(record) + 1))
    body = b"[" + b",".join([record] * count) + b"]"
    assert len(body) > SMALL
    Limits(max_request_records=len(body)).check_json(body)


def test_requests_that_are_large_together_are_answered_apart() -> None:
    request = _array(b'{"x":1.5,"t":"a"}', 60_000)
    model = Predictor(column_x)
    batcher = Batcher(OneVersion(LoadedVersion.of(model, "m", 1, SCHEMA)), Limits())
    finished = batcher.answer([entry_of(request, lane=Lane.ONLINE)] * 16, 1000)
    answers = [Answer.decode(each.answer) for each in finished]
    assert {(each.records, len(each.values)) for each in answers} == {(60_000, 60_000)}
    assert len(answers) == 16
    assert 1 < len(model.sizes) < 16
