"""Everything that decodes bytes of others, by name: what it is given, and how it may refuse.

`test_fuzz` gives each some damaged examples in `make test`, and `python -m tests.fuzz` (`make fuzz`) looks for
further ones with atheris, guided by what they reach. Anything but the errors that are named here is a fault, a
worker's E_INTERNAL among them.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from scoreline_artifacts import ArtifactError, Schema, golden
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_artifacts.manifest import Manifest
from scoreline_artifacts.store.releases import Release
from scoreline_artifacts.store.signing import Signature
from scoreline_client.errors import ScorelineError
from scoreline_client.files.checkpoint import Journal
from scoreline_client.files.chunks import open_reader
from scoreline_client.files.csv import cut_rows
from scoreline_client.files.reader import ModelInfo, Position
from scoreline_client.files.source import open_source
from scoreline_client.fleet import ProcessReport
from scoreline_client.options import BulkOptions, CsvChunk, RequestOptions
from scoreline_client.protocol.arrow_tables import read_stream, write_stream
from scoreline_client.protocol.csv_grammar import Grammar
from scoreline_client.protocol.job_progress import JobProgress
from scoreline_client.protocol.messages import Answer, Codec, Operation, Request, decode_reply
from scoreline_gateway.body import parse_json
from scoreline_gateway.errors import HttpRefused, error_response
from scoreline_gateway.invocations import named, read_csv, read_frame
from scoreline_gateway.v2.tensors import read_inputs, records_of
from scoreline_tasks.scoring.batch import Batcher, Entry
from scoreline_tasks.scoring.limits import Limits
from tests.fuzz import scripts
from tests.support.models import Classifier
from tests.support.scoring import OneVersion, entry_of
from tests.support.stores import manifest_of

FRAME = pd.DataFrame(
    {
        "x": [1.5, 2.5],
        "n": [1, 2],
        "ok": [True, False],
        "town": pd.Categorical(["Ulm", "Bonn"]),
        "word": ["a", "a"],
        "at": pd.to_datetime(["2026-01-31", "2026-02-01"]),
    }
)
ROWS = b'1.5,1,true,Ulm,a,2026-01-31\n2,2,no,"x",b,\n'


@dataclass(frozen=True)
class Target:
    """A decoder."""

    decode: Callable[[bytes], object]
    seeds: Sequence[bytes]
    """Examples of what it reads."""
    refusals: tuple[type[Exception], ...] = (ScorelineError,)
    """What it may raise."""

    def __call__(self, data: bytes) -> None:
        """Decode some bytes; raises what is no refusal."""
        with contextlib.suppress(*self.refusals):
            self.decode(data)


@cache
def _batcher() -> Batcher:
    loaded = LoadedVersion.of(Classifier(), "m", 1, Schema.infer(FRAME))
    return Batcher(OneVersion(loaded), Limits(1 << 20, 1000))


def _answer(entry: Entry) -> None:
    """Has an entry answered by a worker, and reads the answer."""
    (finished,) = _batcher().answer([entry], 1000)
    error = Answer.decode(finished.answer).error or {}
    assert error.get("code") != "E_INTERNAL", error


def _body(codec: Codec, operation: Operation = Operation.SCORE) -> Callable[[bytes], None]:
    def decode(data: bytes) -> None:
        options = RequestOptions(coerce=True).encoded_options if codec is not Codec.CSV else b""
        fields = {"codec": codec, "operation": operation, "options": options}
        _answer(entry_of(Request(id="0" * 32, model="m", body=data, **fields)))

    return decode


def _entry(data: bytes) -> None:
    """Lines of a field and its value, as they stand in a stream."""
    pairs = [line.partition(b"=") for line in data.split(b"\n")]
    fields = {name: value for name, _, value in pairs}
    _answer(Entry(entry_of(Request(id="0" * 32, model="m")).lane, b"1000-0", fields))


def _options(data: bytes) -> None:
    _answer(entry_of(Request(id="0" * 32, model="m", body=b"[{}]", options=data)))


def _cut(data: bytes) -> None:
    """Cut text into rows as the client does: each part is where it says it is."""
    quote, size = (b'"', 7) if data[:1] == b"1" else (b"", 64)
    blocks = (data[at : at + size] for at in range(0, len(data), size))
    grammar = Grammar.of(",", "#" if data[1:2] == b"1" else "", quote.decode())
    cut = list(cut_rows("f", blocks, grammar, Position(0, 1, 1), max_row_bytes=256, most_rows=3))
    assert all(data[rows.start.offset : rows.end.offset] == rows.data for rows in cut)


def _file(suffix: str) -> Callable[[bytes], None]:
    """Read a file of a format to its end."""
    columns = [{"name": name, "type": "number", "nullable": True} for name in ("x", "n")]
    model = ModelInfo("m", 1, columns, ())

    def decode(data: bytes) -> None:
        with tempfile.NamedTemporaryFile(suffix=suffix) as file:
            file.write(data)
            file.flush()
            source = open_source(file.name)
            try:
                reader = open_reader(source, file.name, BulkOptions(), wants_problems=True)
                _, start = reader.begin(model)
                for _ in reader.chunks(start, lambda: 1 << 14):
                    pass
            finally:
                source.close()

    return decode


def _journal(data: bytes) -> None:
    """Read a journal; what is left of it reads the same."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.journal"
        path.touch(0o600)
        path.write_bytes(data)
        journal = Journal(path)
        try:
            first = journal.read()
            assert journal.read() == first
            assert data.startswith(path.read_bytes())
        finally:
            journal.close()


def _inference(data: bytes) -> None:
    """A line of JSON, and the binary tensors behind it, as the gateway takes them."""
    text, _, binary = data.partition(b"\n")
    given = parse_json(text)
    inputs = given.get("inputs") if isinstance(given, dict) else given
    try:
        tensors = read_inputs(inputs, memoryview(binary))
        orjson.dumps(tensors and [each.name for each in tensors])
        records_of(tensors, ["x", "n"] if len(tensors) == 1 else None)
    except HttpRefused as error:
        error_response("/v2/models/m/infer", error)
        raise


def _invocation(data: bytes) -> None:
    """What MLflow's callers send, as JSON and as CSV."""
    with contextlib.suppress(HttpRefused):
        read_csv(data)
    records, columns = read_frame(parse_json(data))
    if columns is not None:
        for index, row in enumerate(records):
            named(columns or ["x", "n"], row, index)


def _parquet() -> bytes:
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(pa.table(FRAME[["x", "n", "word"]]), sink)
    return bytes(sink.getvalue())


def _seed(**values: Any) -> bytes:
    return orjson.dumps(values)


_STREAM = bytes(write_stream(pa.Table.from_pandas(FRAME, preserve_index=False)))
_LONGEST = pa.array([2**62] * len(FRAME), pa.duration("s"))
_LONG = bytes(write_stream(pa.table(FRAME).set_column(1, "n", _LONGEST)))
_HEAD = CsvChunk(columns=list(FRAME), first_row=1, first_line=2, unseen="warn", problems=9)  # type: ignore[arg-type]
_RECORDS = FRAME.astype(str).to_dict("records")
_ANSWER = Answer(id="0" * 32, model="m", version=1, records=1, values=[1], classes=[0, 1])

TARGETS: dict[str, Target] = {
    "wire fields": Target(
        _entry,
        [
            b"\n".join(
                name + b"=" + value
                for name, value in entry_of(
                    Request(id="0" * 32, model="m@3", body=b"[{}]", reply_to="1" * 32, job="2" * 32)
                ).fields.items()
            )
        ],
    ),
    "options": Target(_options, [_seed(coerce=True, unseen="warn", outputs=["error"], problems=3)]),
    "json body": Target(
        _body(Codec.JSON), [orjson.dumps(_RECORDS), b'[{"x":1e400,"x":"\\ud800"},NaN,null]']
    ),
    "json body to check": Target(_body(Codec.JSON, Operation.CHECK), [orjson.dumps(_RECORDS)]),
    "arrow body": Target(_body(Codec.ARROW), [_STREAM, _LONG]),
    "arrow body to check": Target(_body(Codec.ARROW, Operation.CHECK), [_STREAM]),
    "csv body": Target(
        _body(Codec.CSV),
        [
            _HEAD.encode(ROWS),
            b'{"columns":["x","n","ok","town","word","at"],"first_row":1,"first_line":2,"encoding":"latin-1",'
            b'"columns_out":[1,0],"excel_safe":true,"comment":"#","decimal":","}\n' + ROWS,
        ],
    ),
    "csv body to check": Target(_body(Codec.CSV, Operation.CHECK), [_HEAD.encode(ROWS)]),
    "answer": Target(Answer.decode, [_ANSWER.encode(), b'{"wire":1,"more_errors":[{}]}']),
    "reply": Target(
        decode_reply,
        [
            _ANSWER.encode(),
            b'{"wire":1,"id":"0","stored":true}',
            b'{"stored":true}',
            b'{"id":[],"stored":true}',
        ],
    ),
    "arrow answer": Target(
        read_stream, [_STREAM], (OSError, UnicodeDecodeError, pa.ArrowException, ValueError)
    ),
    "csv cutter": Target(_cut, [b"11" + ROWS, b'1a"b,c\n"d\n"e""f",\r\ng', b"00" + ROWS]),
    "csv file": Target(_file(".csv"), [b"x,n\n1,2\n", b'sep=;\nx;n\n"1";2\n']),
    "json lines file": Target(_file(".jsonl"), [b'{"x":1,"n":2}\n{"x":null}\n']),
    "parquet file": Target(
        _file(".parquet"), [_parquet(), _parquet().replace(b"word", b"wor\x8b", 1)]
    ),
    "journal": Target(
        _journal,
        [
            b'{"model":"m","version":1,"input":{},"options":{},"header":"","format":1}\n{"output":1}\n',
            b'{"model":"\x92"}\n',
        ],
    ),
    "manifest": Target(Manifest.decode, [manifest_of({"a": b"b"}, 1).encode()]),
    "golden rows": Target(golden.decode, [b'{"record":{"x":1},"value":1,"probabilities":null}\n']),
    "release": Target(
        lambda data: Release.decode(data, "f"),
        [_seed(version=1, released_at="2026-01-31T12:00:00+00:00", released_by="me")],
        (ArtifactError,),
    ),
    "signature": Target(
        Signature.decode,
        [_seed(key="a", signature="b"), Signature("0" * 64, b"x" * 64).encode()],
        (ValueError,),
    ),
    "job progress": Target(JobProgress.decode, [_seed(host="h", source="s", rows=1, percent=None)]),
    "lua arguments": Target(scripts.call, scripts.SEEDS, ()),
    "inference body": Target(
        _inference,
        [
            b'{"inputs":[{"name":"x","datatype":"FP64","shape":[1],"data":[1.5]},'
            b'{"name":"n","datatype":"BYTES","shape":[1,1],"parameters":{"binary_data_size":5}}]}\n\1\0\0\0a',
            b'{"inputs":[{"name":"\\ud800","datatype":"INT8","shape":[1,2],"data":[[1],NaN],'
            b'"parameters":{"content_type":"base64"}}]}\n',
        ],
    ),
    "invocation body": Target(
        _invocation,
        [
            b'{"dataframe_split":{"columns":["x","n"],"data":[[1,2]]}}',
            b'{"instances":[[1,2]]}',
            b'{"inputs":{"x":[[1],[2]],"n":3}}',
            b"x,n\n1,2\n",
        ],
    ),
    "report": Target(ProcessReport.decode, [_seed(process="a", models=[])]),
}
