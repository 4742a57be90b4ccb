"""What bad input costs: work grows with its length, and no faster.

Work is counted and not timed: instructions of Python, each call of a C function among them. What a C function does
within one call is not seen; where that matters, comparisons are counted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from scoreline_artifacts import Column, ColumnType, Schema
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_artifacts.validation import frame_of_records
from scoreline_client.errors import FileRefused
from scoreline_client.files.chunks import open_reader
from scoreline_client.files.csv import cut_rows
from scoreline_client.files.reader import ModelInfo, Position
from scoreline_client.files.source import open_source
from scoreline_client.options import BulkOptions, CsvChunk, Policy, RequestOptions
from scoreline_client.protocol.csv_grammar import Grammar
from scoreline_client.protocol.messages import Answer, Codec, Operation, Request
from scoreline_tasks.scoring import json_codec
from scoreline_tasks.scoring.text_values import TextRules, reader_of
from tests.support.models import Classifier
from tests.support.scoring import answer_to

FEW = 40
"""The length of the shortest of three inputs; the others are two and four times as long."""
TOWNS = tuple(f"a town of some name {number:03}" for number in range(150))
COLUMNS = [f"c{number}" for number in range(30)]
SCHEMA = Schema(
    (
        Column(name="x", type=ColumnType.NUMBER, dtype="float64"),
        Column(name="town", type=ColumnType.CATEGORY, dtype="category", categories=TOWNS),
        Column(name="word", type=ColumnType.STRING, dtype="object", categories=TOWNS[:50]),
    )
)
LOADED = LoadedVersion.of(Classifier(), "m", 1, SCHEMA)
WIDE = LoadedVersion.of(
    Classifier(), "m", 1, Schema.infer(pd.DataFrame({name: [1.5] for name in COLUMNS}))
)
GOOD: dict[str, Any] = {"x": 1.5, "town": TOWNS[0], "word": TOWNS[0]}
WARN = RequestOptions(unseen=Policy.WARN, out_of_range=Policy.WARN).encoded_options
REFUSE = RequestOptions(unseen=Policy.ERROR).encoded_options


def _ask(body: bytes, codec: Codec = Codec.JSON, **fields: Any) -> Callable[[], Answer]:
    request = Request(id="0" * 32, model="m", body=body, codec=codec, **fields)
    return lambda: answer_to(request, LOADED)


def _json(records: list[Any], **fields: Any) -> Callable[[], Answer]:
    return _ask(orjson.dumps(records), **fields)


def _each(count: int, **fields: Any) -> list[dict[str, Any]]:
    """Records that are good but for some columns, whose values are functions of the number."""
    return [
        {**GOOD, **{name: value(number) for name, value in fields.items()}}
        for number in range(count)
    ]


def _csv(
    rows: bytes, operation: Operation = Operation.SCORE, **fields: Any
) -> Callable[[], Answer]:
    head = CsvChunk(**{"columns": list(GOOD), "first_row": 1, "first_line": 2, **fields})
    return _ask(head.encode(rows), Codec.CSV, operation=operation)


def _arrow(table: Any, most: int | None = None, **fields: Any) -> Callable[[], Answer]:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, most)
    return _ask(sink.getvalue().to_pybytes(), Codec.ARROW, **fields)


def _table(count: int, **columns: list[Any]) -> Any:
    return pa.table({name: [value] * count for name, value in GOOD.items()} | columns)


def _towns(count: int) -> list[str]:
    return [f"a town of some name {number}x" for number in range(count)]


def _cut(data: bytes) -> Callable[[], Any]:
    """Cuts a file's text into rows, as the client does."""
    return lambda: list(cut_rows("f", [data], Grammar.of(","), Position(0, 1, 1)))


KINDS: dict[str, Callable[[int], Callable[[], Any]]] = {
    "json: keys twice": lambda n: _ask(b"[{" + b'"k":0,' * n + b'"x":0}]'),
    "json: different keys, one twice": lambda n: _ask(
        b"[{" + b",".join(b'"k%d":0' % at for at in range(n)) + b',"k0":1}]'
    ),
    "json: unknown categories": lambda n: _json(_each(n, town=lambda at: _towns(n)[at])),
    "json: unknown texts, warned of": lambda n: _json(
        _each(n, word=lambda at: _towns(n)[at]), options=WARN
    ),
    "json: unknown texts, refused": lambda n: _json(
        _each(n, word=lambda at: _towns(n)[at]), options=REFUSE
    ),
    "json: unknown texts, checked": lambda n: _json(
        _each(n, word=lambda at: _towns(n)[at]), operation=Operation.CHECK
    ),
    "json: records without a column": lambda n: _json([{"y": 1, "town": "a"}] * n),
    "json: empty records": lambda n: _json([{}] * n),
    "json: a record of other columns": lambda n: _json([{f"xx{at}": 1 for at in range(n)}]),
    "json: no objects": lambda n: _json([1, "a", None, [[]]] * n),
    "json: values of other types": lambda n: _json(_each(n, x=lambda at: {"a": [at]})),
    "json: numbers beyond all bounds": lambda n: _ask(
        b"[" + b",".join(b'{"x":1' + b"0" * 30 + b"}" for _ in range(n)) + b"]"
    ),
    "json: a number of many digits": lambda n: _ask(b'[{"x":1' + b"0" * (100 * n) + b"}]"),
    "json: lone surrogates": lambda n: _ask(b"[" + b",".join([b'{"x":"\\ud800"}'] * n) + b"]"),
    "json: nested deep": lambda n: _ask(b"[" * (40 * n) + b"]" * (40 * n)),
    "json: long texts": lambda n: _json([{**GOOD, "x": "a" * 100 * n, "town": "b" * 100 * n}]),
    "json: wrong bytes": lambda n: _ask(b'[{"x":"' + b"\xff" * n + b'"}]'),
    "csv: unknown categories": lambda n: _csv(
        "".join(f"1,{town},{TOWNS[0]}\n" for town in _towns(n)).encode()
    ),
    "csv: unknown texts, warned of": lambda n: _csv(
        "".join(f"1,{TOWNS[0]},{town}\n" for town in _towns(n)).encode(),
        unseen=Policy.WARN,
        outputs=["prediction", "warnings"],
    ),
    "csv: unknown texts, checked": lambda n: _csv(
        "".join(f"1,{TOWNS[0]},{town}\n" for town in _towns(n)).encode(), Operation.CHECK
    ),
    "csv: a field too many": lambda n: _csv(b"1,a,b,c\n" * n),
    "csv: a field too few": lambda n: _csv(b"1\n" * n),
    "csv: a field too many, in columns": lambda n: _csv(b"1,a,b,c\n" * n, columns_out=[0, 1, 2]),
    "csv: wrong bytes": lambda n: _csv(b"1,\xff,b\n" * n),
    "csv: wrong bytes in a line": lambda n: _csv(b"1," + b"\xff" * n + b",b\n"),
    "csv: quotes that stay open": lambda n: _csv(b'1,"a,b\n' * n),
    "csv: quotes in the middle": lambda n: _csv(b'1,a"a",b\n' * n),
    "csv: words for numbers": lambda n: _csv(b"".join(b"w%d,a,b\n" % at for at in range(n))),
    "csv: blank lines": lambda n: _csv(b"\n" * n + b"1,a,b\n"),
    "csv: NUL bytes": lambda n: _csv(b"1,\0,b\n" * n),
    "csv: many nulls": lambda n: _csv(
        b"".join(b"w%d,a,b\n" % at for at in range(n)), nulls=[f"n{at}" for at in range(n)]
    ),
    "csv: formulas": lambda n: _csv(b"=1+1,a,b,c\n" * n, excel_safe=True),
    "csv: other columns": lambda n: _csv(b"1\n", columns=[f"xx{at}" for at in range(n)]),
    "csv: outputs many times": lambda n: _csv(b"1,a,b\n", outputs=["probability"] * n),
    "arrow: unknown categories": lambda n: _arrow(_table(n, town=_towns(n))),
    "arrow: unknown texts, warned of": lambda n: _arrow(_table(n, word=_towns(n)), options=WARN),
    "arrow: values of other types": lambda n: _arrow(_table(n, x=["a"] * n)),
    "arrow: nothing": lambda n: _arrow(_table(n, x=[None] * n)),
    "arrow: lists": lambda n: _arrow(_table(n, x=[[1.5]] * n)),
    "arrow: other columns": lambda n: _arrow(
        _table(1, **{f"xx{at}": [1] for at in range(n)}).drop_columns(["x"])
    ),
    "arrow: a batch for each row": lambda n: _arrow(_table(n), 1),
    "cut: a quote, then quoted fields": lambda n: _cut(b'5" nail,"a"\n' + b'"b","c"\n' * n),
    "cut: quotes that stay open": lambda n: _cut(b'a\n"' + b"b\n" * n + b'"\n'),
    "cut: quotes in the middle": lambda n: _cut(b'a"b,c\n' * n),
}


@contextmanager
def _counted() -> Iterator[list[int]]:
    """Counts the instructions that Python executes meanwhile, in all frames that begin."""
    count = [0]

    def trace(frame: Any, event: str, _: Any) -> Any:
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        count[0] += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield count
    finally:
        sys.settrace(before)


def _steps(run: Callable[[], Any]) -> int:
    with _counted() as count, suppress(FileRefused):
        run()
    return count[0]


@pytest.mark.parametrize("kind", KINDS)
def test_twice_the_bad_input_takes_twice_the_work(kind: str) -> None:
    KINDS[kind](FEW)()  # what is made once is made now
    few, more, most = (_steps(KINDS[kind](FEW * times)) for times in (1, 2, 4))
    # What every input costs is left out; 2 where work grows with the length, 4 where with its square.
    assert most - more <= 2.3 * (more - few) + 3000, (few, more, most)


def test_towns_that_training_did_not_know_cost_about_what_known_ones_cost() -> None:
    unknown = _json(_each(500, town=lambda at: _towns(500)[at]))
    known = _json(_each(500, town=lambda at: TOWNS[at % len(TOWNS)]))
    unknown()
    known()
    assert _steps(unknown) < 250_000 + 10 * _steps(known)


class Compared(str):
    """A text that counts how often one such is compared with another."""

    __slots__ = ()
    times = 0

    def __hash__(self) -> int:
        return super().__hash__()

    def __eq__(self, other: object) -> bool:
        Compared.times += 1
        return super().__eq__(other)


@pytest.fixture(autouse=True)
def _nothing_compared() -> None:
    Compared.times = 0


def test_keys_of_a_record_are_hardly_compared_with_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loads = json_codec.json.loads

    def counted(text: str, **settings: Any) -> Any:
        hook = settings.pop("object_pairs_hook")
        return loads(
            text,
            object_pairs_hook=lambda pairs: hook([(Compared(key), one) for key, one in pairs]),
            **settings,
        )

    monkeypatch.setattr(json_codec.json, "loads", counted)
    keys = [*range(1000), 999]
    body = b"[{" + b",".join(b'"%d":0' % key for key in keys) + b"}]"
    (record,) = json_codec.read_records(body)
    assert record.message == "the record has the key '999' twice"
    assert Compared.times < 20_000


def test_a_text_is_hardly_compared_with_those_that_stand_for_nothing() -> None:
    rules = TextRules(nulls=frozenset(Compared(f"n{at}") for at in range(1000)))
    read = reader_of(SCHEMA.columns[0], rules)
    assert {read(Compared(f"w{at}")) for at in range(1000)} != {None}
    assert Compared.times < 20_000


def test_a_text_is_hardly_compared_with_categories() -> None:
    towns = tuple(map(Compared, TOWNS))
    column = Column(name="t", type=ColumnType.CATEGORY, dtype="category", categories=towns)
    read = reader_of(column, TextRules())
    for at in range(1000):
        read(Compared(f"w{at}"))
    assert Compared.times < 20_000


def test_hints_are_for_the_first_few() -> None:
    records = _each(50, town=lambda at: f"A TOWN of some name {at:03}")
    problems = frame_of_records(records, SCHEMA).problems
    assert [("nearest" in problem.message) for problem in problems] == [True] * 8 + [False] * 42


# Readers of the client


def _read(path: Path, columns: list[str]) -> Callable[[], Any]:
    """Reads a file to its end as `score` does, without asking anybody."""
    described = [{"name": name, "type": "number", "nullable": False} for name in columns]
    model = ModelInfo("m", 1, described, ())

    def run() -> None:
        source = open_source(str(path))
        try:
            reader = open_reader(source, str(path), BulkOptions(), wants_problems=True)
            _, start = reader.begin(model)
            for _ in reader.chunks(start, lambda: 1 << 16):
                pass
        finally:
            source.close()

    return run


def _jsonl(path: Path, lines: list[Any]) -> None:
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))


FILES: dict[str, tuple[str, Callable[[Path, int], Any], list[str]]] = {
    "a header of other columns": (
        "f.csv",
        lambda path, n: path.write_text(",".join(f"xx{at}" for at in range(n)) + "\n1\n"),
        COLUMNS,
    ),
    "a header that comes again": (
        "f.csv",
        lambda path, n: path.write_text("alpha,beta\n" * n),
        ["alpha", "beta"],
    ),
    "lines that are nearly the header": (
        "f.csv",
        lambda path, n: path.write_text("alpha,beta\n" + "alpha,betb\n" * n),
        ["alpha", "beta"],
    ),
    "objects of other fields": (
        "f.jsonl",
        lambda path, n: _jsonl(path, [{f"x{at}": 1, f"y{at}": 2} for at in range(n)]),
        ["x"],
    ),
    "lines that are no JSON": ("f.jsonl", lambda path, n: path.write_text("{\n" * n), ["x"]),
    "rows of Parquet of which each is large": (
        "f.parquet",
        lambda path, n: pyarrow.parquet.write_table(
            pa.table({"x": [1.0] * n, "t": ["a" * 9_000_000] + ["b"] * (n - 1)}), path
        ),
        ["x"],
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_twice_the_bad_file_takes_twice_the_work(tmp_path: Path, kind: str) -> None:
    name, write, columns = FILES[kind]
    steps = []
    for times in (1, 1, 2, 4):  # the first one makes what is made once
        path = tmp_path / str(times) / name
        path.parent.mkdir(exist_ok=True)
        write(path, FEW * times)
        steps.append(_steps(_read(path, columns)))
    _, few, more, most = steps
    assert most - more <= 2.3 * (more - few) + 3000, (few, more, most)
