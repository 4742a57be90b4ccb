"""A run that was killed at any moment is gone on with, and nobody can tell from the output."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from scoreline_client.codes import Code
from scoreline_client.errors import FileRefused, TooManyErrors
from scoreline_client.files.checkpoint import Journal
from scoreline_client.files.run import BulkProgress
from scoreline_client.protocol.messages import Answer, Operation, Request, Status
from tests.support import bulk
from tests.support.bulk import SMALL, StubTransport, answer, names_in

run = partial(bulk.run, sizes=SMALL)

ROWS = 4000


def _csv(path: Path) -> None:
    rows = (f'{row},"x,{row}",{"bad" if row % 97 == 0 else row % 11}\n' for row in range(ROWS))
    path.write_text("id,name,a\n" + "".join(rows))


def _jsonl(path: Path) -> None:
    rows = (f'{{"id":{row},"a":{"null" if row % 97 == 0 else row % 11}}}\n' for row in range(ROWS))
    path.write_text("".join(rows))


def _parquet(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {"id": list(range(ROWS)), "a": [None if row % 97 == 0 else row % 11 for row in range(ROWS)]}
    )
    pq.write_table(table, path, row_group_size=1500)


MAKE: dict[str, Callable[[Path], None]] = {"csv": _csv, "jsonl": _jsonl, "parquet": _parquet}
FILES = ["out.csv", "out.csv.gz", "out.csv.zst", "out.jsonl", "out.jsonl.gz", "out.parquet"]


class _Killed(Exception):
    """Stands for the end of the process."""


def _kill_at(rows: int, folder: Path, grave: Path) -> Callable[[BulkProgress], None]:
    """A copy of all that is on the disk when so many rows are done, as a kill would leave it."""

    def look(now: BulkProgress) -> None:
        if now.rows >= rows:
            shutil.copytree(folder, grave)
            raise _Killed

    return look


def _killed(source: Path, target: Path, rows: int, **options: Any) -> None:
    """Begin, and be killed at a row."""
    grave = target.parent.parent / f"grave-{rows}"
    with pytest.raises(_Killed):
        run(source, target, progress=_kill_at(rows, target.parent, grave), **options)
    shutil.rmtree(target.parent)
    shutil.move(grave, target.parent)


def _source_for(tmp_path: Path, output: str) -> Path:
    kind = output.split(".")[1]
    source = tmp_path / f"in.{kind}"
    MAKE[kind](source)
    return source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "out"
    path.mkdir()
    return path


@pytest.mark.parametrize("output", FILES)
def test_a_run_that_was_killed_again_and_again_ends_with_the_same_bytes(
    tmp_path: Path, folder: Path, output: str
) -> None:
    source, target = _source_for(tmp_path, output), folder / output
    run(source, tmp_path / output)
    _killed(source, target, 300)
    for rows in (900, 1000, 1700, 3100, 3900):
        _killed(source, target, rows, resume=True)
    run(source, target, resume=True)
    assert target.read_bytes() == (tmp_path / output).read_bytes()
    report = f"{output}.errors.csv"
    assert (folder / report).read_bytes() == (tmp_path / report).read_bytes()
    assert names_in(folder) == [output, report]


def test_rows_that_are_done_are_not_scored_again(tmp_path: Path, folder: Path) -> None:
    source, target = _source_for(tmp_path, "out.csv"), folder / "out.csv"
    _killed(source, target, 2000)
    transport = StubTransport()
    summary = run(source, target, resume=True, transport=transport)
    sent = sum(len(request.body) for request, _ in transport.sent)
    assert sent < source.stat().st_size * 0.8
    assert (summary.rows, summary.rejected) == (ROWS, 42)


def test_what_was_found_out_about_earlier_rows_is_still_told(tmp_path: Path, folder: Path) -> None:
    source, target = tmp_path / "in.csv", folder / "out.csv"
    source.write_text("id,a\n1,9\nid,a\n" + "2,3\n" * 2000)
    repeated = run(source, tmp_path / "whole.csv").notes
    assert [note for note in repeated if "the first is line 3" in note]
    _killed(source, target, 900)
    _killed(source, target, 1500, resume=True)
    notes = run(source, target, resume=True).notes
    assert [note for note in notes if "resumed" not in note] == list(repeated)
    assert len([note for note in notes if "resumed" in note]) == 1


def test_what_a_kill_left_half_written_is_written_anew(tmp_path: Path, folder: Path) -> None:
    source, target = _source_for(tmp_path, "out.csv"), folder / "out.csv"
    run(source, tmp_path / "whole.csv")
    _killed(source, target, 2000)
    for name, torn in [
        ("out.csv.part", b"17,1"),
        ("out.csv.errors.csv.part", b"17,"),
        ("out.csv.journal", b'{"place":{"off'),
    ]:
        with (folder / name).open("ab") as file:
            file.write(torn)
    run(source, target, resume=True)
    assert target.read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.mark.parametrize("damage", [b"\0" * 300 + b"\n", b"{}\n", b'{"place":7}\n', b"7\n"])
def test_a_journal_is_believed_up_to_what_is_damaged(
    tmp_path: Path, folder: Path, damage: bytes
) -> None:
    source, target = _source_for(tmp_path, "out.csv"), folder / "out.csv"
    run(source, tmp_path / "whole.csv")
    _killed(source, target, 2000)
    journal = folder / "out.csv.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:5], damage, *lines[6:]]))
    summary = run(source, target, resume=True)
    assert target.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert summary.notes[-1].startswith("resumed behind row")


def test_output_that_never_reached_the_disk_is_made_again(tmp_path: Path, folder: Path) -> None:
    source, target = _source_for(tmp_path, "out.csv"), folder / "out.csv"
    run(source, tmp_path / "whole.csv")
    _killed(source, target, 2000)
    os.truncate(folder / "out.csv.part", 10_000)
    run(source, target, resume=True)
    assert target.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_compressed_input_is_resumed_by_unpacking_it_again(tmp_path: Path, folder: Path) -> None:
    import gzip

    plain = _source_for(tmp_path, "out.csv")
    source = tmp_path / "in.csv.gz"
    source.write_bytes(gzip.compress(plain.read_bytes()))
    run(plain, tmp_path / "whole.csv")
    _killed(source, folder / "out.csv", 2000)
    run(source, folder / "out.csv", resume=True)
    assert (folder / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_an_input_that_changed_since_is_refused(tmp_path: Path, folder: Path) -> None:
    source, target = _source_for(tmp_path, "out.csv"), folder / "out.csv"
    _killed(source, target, 2000)
    with source.open("a") as file:
        file.write("1,y,2\n")
    with pytest.raises(FileRefused, match=r"the input is not the same as then.*--restart") as found:
        run(source, target, resume=True)
    assert found.value.code == Code.INPUT_CHANGED
    assert "out.csv.part" in names_in(folder)


def test_other_options_are_refused(tmp_path: Path, folder: Path) -> None:
    source, target = _source_for(tmp_path, "out.csv"), folder / "out.csv"
    _killed(source, target, 2000)
    with pytest.raises(FileRefused, match=r"drop was \[\], is \['name'\]"):
        run(source, target, resume=True, drop=("name",))


@pytest.mark.parametrize("model", ["other", "threshold@5"])
def test_another_model_is_refused(tmp_path: Path, folder: Path, model: str) -> None:
    source, target = _source_for(tmp_path, "out.csv"), folder / "out.csv"
    _killed(source, target, 2000)
    with pytest.raises(FileRefused, match="begun with threshold@4"):
        run(source, target, resume=True, model=model)


def test_a_version_that_is_gone_is_refused(tmp_path: Path, folder: Path) -> None:
    source, target = _source_for(tmp_path, "out.csv"), folder / "out.csv"
    _killed(source, target, 2000)
    asked: list[str] = []

    def gone(request: Request) -> Answer:
        asked.append(request.model)
        error = {"code": Code.UNKNOWN_MODEL.value, "message": "no such version"}
        return Answer(id=request.id, status=Status.ERROR, error=error)

    with pytest.raises(FileRefused, match=r"version 4 of 'threshold'.*is gone.*--restart"):
        run(source, target, resume=True, transport=StubTransport(gone))
    assert asked == ["threshold@4"]


def test_an_unfinished_run_is_not_lost_by_accident(tmp_path: Path, folder: Path) -> None:
    source, target = _source_for(tmp_path, "out.csv"), folder / "out.csv"
    _killed(source, target, 2000)
    before = (folder / "out.csv.part").read_bytes()
    with pytest.raises(FileRefused, match=r"an unfinished run.*--resume.*--restart"):
        run(source, target)
    assert (folder / "out.csv.part").read_bytes() == before


def test_restart_begins_anew(tmp_path: Path, folder: Path) -> None:
    source, target = _source_for(tmp_path, "out.csv"), folder / "out.csv"
    run(source, tmp_path / "whole.csv")
    _killed(source, target, 2000)
    run(source, target, restart=True)
    assert target.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert names_in(folder) == ["out.csv", "out.csv.errors.csv"]


def test_resuming_where_nothing_was_begun_begins(tmp_path: Path, folder: Path) -> None:
    source, target = _source_for(tmp_path, "out.csv"), folder / "out.csv"
    assert run(source, target, resume=True).rows == ROWS


def test_two_runs_cannot_write_one_output(tmp_path: Path, folder: Path) -> None:
    source, target = _source_for(tmp_path, "out.csv"), folder / "out.csv"
    _killed(source, target, 2000)
    journal = Journal(folder / "out.csv.journal")
    with pytest.raises(FileRefused, match="another run is writing this output"):
        run(source, target, resume=True)
    journal.close()


def test_a_run_that_stops_for_its_errors_goes_on_with_a_higher_limit(
    tmp_path: Path, folder: Path
) -> None:
    from scoreline_client.options import MaxErrors

    source, target = _source_for(tmp_path, "out.csv"), folder / "out.csv"
    run(source, tmp_path / "whole.csv")
    with pytest.raises(TooManyErrors, match=r"rejected, more than 9 .*errors\.csv\.part"):
        run(source, target, max_errors=MaxErrors(rows=9))
    assert len((folder / "out.csv.errors.csv.part").read_text().splitlines()) == 11
    run(source, target, max_errors=MaxErrors(rows=100), resume=True)
    assert target.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_service_that_fails_half_way_leaves_what_was_scored(tmp_path: Path, folder: Path) -> None:
    source, target = _source_for(tmp_path, "out.csv"), folder / "out.csv"
    run(source, tmp_path / "whole.csv")
    count = 0

    def failing(request: Request) -> Answer:
        nonlocal count
        count += request.operation is not Operation.DESCRIBE
        if count > 8:
            error = {"code": Code.INTERNAL.value, "message": "the worker failed"}
            return Answer(id=request.id, status=Status.ERROR, error=error)
        return answer(request)

    with pytest.raises(Exception, match="the worker failed"):
        run(source, target, transport=StubTransport(failing))
    assert not target.exists()
    run(source, target, resume=True)
    assert target.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_disk_that_is_full_says_so_and_keeps_what_was_scored(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource
    import signal

    source, target = _source_for(tmp_path, "out.csv"), folder / "out.csv"
    run(source, tmp_path / "whole.csv")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))
    try:
        with pytest.raises(FileRefused, match="no room left") as found:
            run(source, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert found.value.code == Code.DISK_FULL
    run(source, target, resume=True)
    assert target.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_parquet_run_whose_tables_were_cut_otherwise_is_resumed_with_every_row(
    tmp_path: Path, folder: Path
) -> None:
    """Where a table ends depends on Arrow and on this library; a journal may be older than both."""
    source, target = _source_for(tmp_path, "out.parquet"), folder / "out.parquet"
    run(source, tmp_path / "whole.parquet")
    _killed(source, target, 900, sizes=replace(SMALL, most_chunk_rows=77))
    run(source, target, resume=True, sizes=replace(SMALL, most_chunk_rows=100))
    whole, resumed = (pd.read_parquet(path) for path in (tmp_path / "whole.parquet", target))
    pd.testing.assert_frame_equal(resumed, whole)
