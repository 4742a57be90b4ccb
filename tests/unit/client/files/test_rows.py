"""The rows of a file, for those who write the output themselves, and many records with a window."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoreline_client import (
    BulkOptions,
    Client,
    FileRefused,
    NoAnswer,
    Prediction,
    ScoredRow,
    UnknownModel,
)
from scoreline_client.files.chunks import ChunkSize
from scoreline_client.files.rows import scored_parts
from scoreline_client.files.sizes import DEFAULT_SIZES
from scoreline_client.options import Policy
from scoreline_client.protocol.messages import Answer, Request, Status, new_id
from scoreline_client.testing import FakeScoreline
from scoreline_client.transport.dispatcher import Transport
from scoreline_client.transport.ordered import (
    DEFAULT_TIMES,
    BulkJob,
    BulkTimes,
    answers_in_time,
    in_order,
)
from tests.support.bulk import LOADED, StubTransport

YES = Prediction("yes", {"no": 0.25, "yes": 0.75}, "threshold", 4)


def _rows(source: Path, **options: Any) -> list[ScoredRow]:
    async def read() -> list[ScoredRow]:
        stub = cast("Transport", StubTransport())
        parts = scored_parts(stub, "threshold", str(source), BulkOptions(**options))
        return [row async for part in parts for row in part]

    return asyncio.run(read())


def test_a_row_of_csv_has_its_text_and_a_typed_prediction(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text('id,a\n007,9\n"1,2",x\n3\n')
    good, bad, short = _rows(source)
    assert good == ScoredRow(1, {"id": "007", "a": "9"}, YES)
    assert (bad.record, bad.prediction.value) == ({"id": "1,2", "a": "x"}, None)
    assert bad.prediction.error is not None
    assert (
        bad.prediction.error.code,
        bad.prediction.error.column,
        bad.prediction.error.record,
    ) == (
        "E_TYPE",
        "a",
        1,
    )
    assert (short.row, short.record["id"]) == (3, "3")
    assert short.prediction.error is not None
    assert short.prediction.error.code == "E_FIELD_COUNT"


def test_a_line_of_json_has_its_values(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"id":[7],"a":9}\nnothing\n')
    good, bad = _rows(source, out_of_range=Policy.IGNORE)
    assert good == ScoredRow(1, {"id": [7], "a": 9}, YES)
    assert bad.record == {}
    assert bad.prediction.error is not None
    assert bad.prediction.error.code == "E_JSON"


def test_a_row_of_parquet_has_its_values(tmp_path: Path) -> None:
    source = tmp_path / "in.parquet"
    pq.write_table(pa.table({"id": [b"x", b"y"], "a": [9.0, None]}), source)
    good, bad = _rows(source)
    assert good == ScoredRow(1, {"id": b"x", "a": 9.0}, YES)
    assert bad.prediction.error is not None
    assert bad.prediction.error.code == "E_NULL"


def test_a_record_has_the_columns_that_were_asked_for(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("id,a\n1,9\n")
    assert _rows(source, keep=("id",))[0].record == {"id": "1"}
    assert _rows(source, only_predictions=True)[0] == ScoredRow(1, {}, YES)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with FakeScoreline(models={}) as fake:
        fake._worker._models.add(LOADED)
        yield fake.client()


def test_a_caller_without_an_event_loop_gets_the_same_rows(client: Client, tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("id,a\n" + "1,9\n" * 5000)
    rows = list(client.score_rows("threshold", source))
    assert [row.row for row in rows] == list(range(1, 5001))
    assert {row.prediction.value for row in rows} == {"yes"}


def test_a_caller_may_stop_in_the_middle(client: Client, tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("id,a\n" + "1,9\n" * 200_000)
    rows = client.score_rows("threshold", source)
    assert next(rows).row == 1
    rows.close()  # type: ignore[attr-defined]


def test_a_file_that_cannot_be_scored_is_refused_at_the_first_row(
    client: Client, tmp_path: Path
) -> None:
    source = tmp_path / "in.csv"
    source.write_text("id,b\n1,9\n")
    with pytest.raises(FileRefused, match="missing: 'a'"):
        next(client.score_rows("threshold", source))


def test_a_frame_of_many_rows_keeps_its_order_and_index(client: Client) -> None:
    frame = pd.DataFrame({"a": [float(row % 11) for row in range(30_000)]}, index=range(5, 30_005))
    found = client.predict_frame("threshold", frame)
    assert found.index.equals(frame.index)
    assert ((found["prediction"] == "yes") == (frame["a"] > 5)).all()


async def test_requests_are_made_when_there_is_room_for_them() -> None:
    made: list[int] = []
    done = 0

    def items() -> Iterator[int]:
        for item in range(20):
            made.append(item)
            assert len(made) - done <= 4
            yield item

    async def ask(item: int) -> int:
        await asyncio.sleep(0.001 * (item % 3))
        return item * 2

    async for item, answer in in_order(items(), ask, lambda: 3):
        done += 1
        assert answer == item * 2
    assert made == list(range(20))


async def _ask_for(
    items: list[int],
    stub: StubTransport,
    *,
    timeout_s: float = 5.0,
    times: BulkTimes = DEFAULT_TIMES,
) -> list[tuple[int, Answer]]:
    def build(ref: str, item: int, job: str) -> Request:
        return Request(id=new_id(), model=ref, body=str(item).encode(), job=job)

    found = answers_in_time(
        cast("Transport", stub), "threshold", iter(items), build, timeout_s=timeout_s, times=times
    )
    return [pair async for pair in found]


async def test_requests_do_not_wait_to_be_told_the_version() -> None:
    stub = StubTransport(lambda request: Answer(id=request.id, version=4))
    stub.answers_after = 4
    await _ask_for([1, 2, 3, 4], stub)
    assert [request.model for request, _ in stub.sent] == ["threshold"] * 4
    assert [bool(request.job) for request, _ in stub.sent] == [False, True, True, True]


async def test_what_met_another_version_than_the_first_is_asked_again() -> None:
    def respond(request: Request) -> Answer:
        """A release is on its way: those who come later meet the newer version."""
        is_first = request.body == b"1"
        version = 4 if is_first or request.model == "threshold@4" else 5
        return Answer(id=request.id, version=version)

    stub = StubTransport(respond)
    found = await _ask_for([1, 2, 3], stub)
    assert [(item, answer.version) for item, answer in found] == [(1, 4), (2, 4), (3, 4)]
    again = [request.body for request, _ in stub.sent if request.model == "threshold@4"]
    assert sorted(again) == [b"2", b"3"]


async def test_what_is_asked_later_is_asked_of_the_version_that_is_known() -> None:
    stub = StubTransport(lambda request: Answer(id=request.id, version=4))
    stub.processes = 1
    await _ask_for(list(range(10)), stub)
    models = [request.model for request, _ in stub.sent]
    assert models[0] == "threshold"
    assert models[-1] == "threshold@4"


async def test_a_refusal_of_the_first_ends_it_all() -> None:
    error = {"code": "E_UNKNOWN_MODEL", "message": "there is none"}
    stub = StubTransport(lambda one: Answer(id=one.id, status=Status.ERROR, error=error))
    with pytest.raises(UnknownModel):
        await _ask_for([1, 2, 3], stub)
    assert len(stub.ended) == 1


async def test_a_caller_who_has_waited_long_enough_is_told() -> None:
    def respond(request: Request) -> Answer | None:
        return None if request.body == b"2" else Answer(id=request.id, version=4)

    stub = StubTransport(respond)
    with pytest.raises(NoAnswer, match=r"within 0\.05 s"):
        await _ask_for([1, 2], stub, timeout_s=0.05, times=BulkTimes(check_after_s=0.01))
    assert len(stub.ended) == 1


@pytest.mark.parametrize(
    ("processes", "jobs", "window"), [(2, 1, 4), (2, 2, 2), (2, 3, 2), (2, 10, 1), (0, 1, 1)]
)
async def test_a_jobs_share_is_two_chunks_a_process_among_all_jobs(
    processes: int, jobs: int, window: int
) -> None:
    stub = StubTransport()
    stub.processes, stub.jobs = processes, jobs
    async with BulkJob(cast("Transport", stub)) as job:
        assert job.window == window


def test_chunks_are_of_one_size_however_long_some_of_them_take() -> None:
    size = ChunkSize(1 << 30)
    for scored_ms in (1.0, 900.0, 900.0, 20.0) * 5:
        size.learn(scored_ms)
    assert size.bytes == DEFAULT_SIZES.largest_chunk_bytes


def test_chunks_of_a_slow_model_become_smaller() -> None:
    size = ChunkSize(1 << 30)
    for _ in range(DEFAULT_SIZES.slow_chunks):
        size.learn(DEFAULT_SIZES.slow_chunk_ms + 1)
    assert size.bytes == DEFAULT_SIZES.largest_chunk_bytes // 2
    for _ in range(100):
        size.learn(1000.0)
    assert size.bytes == DEFAULT_SIZES.smallest_chunk_bytes


def test_small_files_are_cut_small_so_that_processes_share_them() -> None:
    assert ChunkSize(400_000).bytes == 50_000
