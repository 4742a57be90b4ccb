"""A file goes out in chunks and comes back in order, or not at all."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scoreline_client import AsyncClient
from scoreline_client.codes import Code
from scoreline_client.errors import (
    FileRefused,
    NoAnswer,
    QueueFull,
    RequestRefused,
    ServerUnreachable,
    UnknownModel,
)
from scoreline_client.files.run import BulkProgress, ScoreSummary
from scoreline_client.protocol.keys import Lane
from scoreline_client.protocol.messages import Answer, Operation, Request, Status
from scoreline_client.transport.ordered import REQUESTS_PER_PROCESS, BulkTimes
from tests.support.bulk import CSV, SMALL, StubTransport, answer, run

HEADER = "id,a\n"
ADDED = ",prediction,probability_no,probability_yes,error"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.csv"
    path.write_text(HEADER + "1,9\n2,x\n3,1\n")
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out.csv"


def _run(
    source: Path, target: Path, transport: StubTransport | None = None, **options: Any
) -> ScoreSummary:
    return run(source, target, transport=transport, **options)


def _is_alone(source: Path) -> bool:
    """Whether nothing but the input is left."""
    return list(source.parent.iterdir()) == [source]


def test_every_row_comes_back_with_its_answer(source: Path, target: Path) -> None:
    _run(source, target)
    assert target.read_text().splitlines() == [
        f"id,a{ADDED}",
        "1,9,yes,0.25,0.75,",
        "2,x,,,,E_TYPE: column 'a': 'x' is text; expected a finite number",
        "3,1,no,0.25,0.75,",
    ]


def test_the_summary_accounts_for_every_row(source: Path, target: Path) -> None:
    summary = _run(source, target)
    assert (summary.rows, summary.scored, summary.rejected) == (3, 2, 1)
    assert (summary.rejected_by_code, summary.model, summary.version) == (
        {"E_TYPE": 1},
        "threshold",
        4,
    )


def test_many_chunks_are_written_in_the_files_order(source: Path, target: Path) -> None:
    rows = [f"{row},{row % 11}.5" for row in range(60_000)]
    source.write_text(HEADER + "\n".join(rows) + "\n")
    transport = StubTransport()
    _run(source, target, transport)
    written = target.read_text().splitlines()[1:]
    assert len(transport.sent) > 4
    assert [line.rsplit(",", 4)[0] for line in written] == rows


def test_only_a_few_chunks_are_on_their_way_at_a_time(source: Path, target: Path) -> None:
    source.write_text(HEADER + "1,2.5\n" * 300_000)
    transport = StubTransport()
    _run(source, target, transport)
    assert transport.most_waiting <= REQUESTS_PER_PROCESS * transport.processes


def test_chunks_go_by_the_bulk_lane_and_are_pinned(source: Path, target: Path) -> None:
    transport = StubTransport()
    _run(source, target, transport)
    (describe, first), *chunks = transport.sent
    assert (describe.model, first) == ("threshold", Lane.ONLINE)
    assert {(request.model, lane) for request, lane in chunks} == {("threshold@4", Lane.BULK)}


def test_progress_ends_with_the_whole_file(source: Path, target: Path) -> None:
    seen: list[BulkProgress] = []
    _run(source, target, progress=seen.append)
    last = seen[-1]
    assert (last.rows, last.rejected, last.version) == (3, 1, 4)
    assert last.done == last.total == source.stat().st_size


def test_whoever_watches_the_queue_is_told_how_far_a_file_is(tmp_path: Path, target: Path) -> None:
    source = tmp_path / "in\udcff\n.csv"
    source.write_text(HEADER + "".join(f"{n},{n}\n" for n in range(5000)) + "1,x\n")
    transport = StubTransport()
    run(source, target, transport=transport, sizes=SMALL, times=BulkTimes(renew_every_s=0.001))
    told = transport.told
    assert (told[0].rows, told[0].percent, told[0].seconds_left) == (0, 0, None)
    assert 0 < told[-1].rows <= 5001
    assert [one.rows for one in told] == sorted(one.rows for one in told)
    assert {(one.source, one.model, one.version) for one in told} == {
        ("in\\udcff\\n.csv", "threshold", 4)
    }


def test_a_file_with_a_header_alone_has_no_rows(source: Path, target: Path) -> None:
    source.write_text(HEADER)
    assert _run(source, target).rows == 0
    assert target.read_text() == f"id,a{ADDED}\n"


def test_a_missing_column_refuses_the_file_before_anything_is_sent(
    source: Path, target: Path
) -> None:
    source.write_text("id,A\n1,2\n")
    transport = StubTransport()
    with pytest.raises(FileRefused, match="missing: 'a'; did you mean 'A'"):
        _run(source, target, transport)
    assert len(transport.sent) == 1
    assert _is_alone(source)


def test_an_unclosed_quote_leaves_no_output_behind(source: Path, target: Path) -> None:
    source.write_text(HEADER + '1,2\n2,"3\n4,5\n')
    with pytest.raises(FileRefused, match="on line 3"):
        _run(source, target)
    assert _is_alone(source)


def test_input_and_output_must_differ(source: Path) -> None:
    before = source.read_bytes()
    with pytest.raises(FileRefused, match="the same file"):
        _run(source, source)
    assert source.read_bytes() == before


def test_an_output_without_a_directory_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match="there is no directory"):
        _run(source, tmp_path / "nowhere" / "out.csv")


def test_an_input_that_is_not_there_is_refused(tmp_path: Path, target: Path) -> None:
    with pytest.raises(FileRefused, match="cannot be read") as caught:
        _run(tmp_path / "none.csv", target)
    assert caught.value.code == Code.FILE


def test_an_unknown_model_is_an_error_of_its_own(source: Path, target: Path) -> None:
    def unknown(request: Request) -> Answer:
        error = {"code": Code.UNKNOWN_MODEL.value, "message": "no such model"}
        return Answer(id=request.id, status=Status.ERROR, error=error)

    with pytest.raises(UnknownModel, match="no such model"):
        _run(source, target, StubTransport(unknown))


def test_a_chunk_that_fails_leaves_an_earlier_output_alone(source: Path, target: Path) -> None:
    def broken(request: Request) -> Answer:
        if request.operation is Operation.DESCRIBE:
            return answer(request)
        error = {"code": Code.INTERNAL.value, "message": "the worker failed"}
        return Answer(id=request.id, status=Status.ERROR, error=error)

    target.write_text("what was there\n")
    with pytest.raises(RequestRefused, match="the worker failed"):
        _run(source, target, StubTransport(broken))
    assert target.read_text() == "what was there\n"
    assert sorted(path.name for path in target.parent.iterdir()) == ["in.csv", "out.csv"]


def test_a_full_queue_makes_a_file_wait(source: Path, target: Path) -> None:
    refusals = iter([True, True])

    def full_twice(request: Request) -> Answer:
        if request.operation is not Operation.DESCRIBE and next(refusals, False):
            raise QueueFull("default", "it is full", 0.001)
        return answer(request)

    assert _run(source, target, StubTransport(full_twice)).rows == 3


def test_a_file_does_not_wait_for_ever_when_no_worker_is_alive(source: Path, target: Path) -> None:
    times = BulkTimes(check_after_s=0.01, renew_every_s=0.01, unserved_patience_s=0.01)
    transport = StubTransport(_describe_only)
    transport.processes = 0
    with pytest.raises(NoAnswer, match="no worker is alive"):
        _run(source, target, transport, times=times)
    assert _is_alone(source)


@pytest.mark.parametrize("is_begun", [True, False], ids=["within", "at its begin"])
def test_a_file_waits_for_workers_that_are_being_replaced_and_says_so(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch, is_begun: bool
) -> None:
    times = BulkTimes(check_after_s=0.01, renew_every_s=0.01)
    transport = StubTransport(_describe_only if is_begun else lambda _: None)
    seen: list[BulkProgress] = []
    looks = 0

    async def process_count() -> int:
        """None for some looks; then there are two, and all that waits is answered."""
        nonlocal looks
        looks += 1
        if looks < 20:
            return 0
        for request, future in transport.asked:
            if not future.done():
                future.set_result(answer(request))
        return 2

    monkeypatch.setattr(transport, "process_count", process_count)
    summary = run(source, target, transport=transport, progress=seen.append, times=times)
    assert summary.rows == 3
    assert seen[0].waiting == "no worker for 0 s; waiting until 60 s"
    assert (seen[-1].waiting, seen[-1].rows) == (None, 3)
    assert all(json.dumps(one.as_json()) for one in seen)


def test_progress_names_a_source_without_its_token_also_before_a_worker_is_there(
    memory: Any, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "memory://bucket/in.csv?token=secret"
    memory.pipe(url, CSV.encode())
    transport = StubTransport(lambda _: None)
    seen: list[BulkProgress] = []

    async def process_count() -> int:
        """None until there was progress; then there are two, and all that waits is answered."""
        for request, future in transport.asked:
            if seen and not future.done():
                future.set_result(answer(request))
        return 2 if seen else 0

    monkeypatch.setattr(transport, "process_count", process_count)
    times = BulkTimes(check_after_s=0.01, renew_every_s=0.01)
    run(url, target, transport=transport, progress=seen.append, times=times)
    assert (seen[0].version, seen[-1].version) == (0, 4)
    assert {progress.source for progress in seen} == {"memory://bucket/in.csv?…"}


def test_a_file_waits_for_no_server_that_was_never_there(source: Path, target: Path) -> None:
    async def score() -> None:
        async with AsyncClient("redis://127.0.0.1:1/0") as client, asyncio.timeout(20):
            await client.score_file("threshold", source, target)

    with pytest.raises(ServerUnreachable):
        asyncio.run(score())


def _describe_only(request: Request) -> Answer | None:
    return answer(request) if request.operation is Operation.DESCRIBE else None


def test_a_worker_that_loses_a_row_is_noticed(source: Path, target: Path) -> None:
    def lose_rows(request: Request) -> Answer:
        whole = answer(request)
        is_chunk = request.operation is not Operation.DESCRIBE
        return replace(whole, records=0, body=b"") if is_chunk else whole

    with pytest.raises(RequestRefused, match="0 rows for the 3 rows"):
        _run(source, target, StubTransport(lose_rows))


def test_a_summary_and_its_progress_are_json() -> None:
    now = BulkProgress(
        rows=50, rejected=1, done=25, total=100, unit="bytes", seconds=2.0, rows_per_s=25.0,
        seconds_left=6.0, version=3, source="in.csv",
    )  # fmt: skip
    assert json.loads(json.dumps(now.as_json()))["percent"] == 25.0
