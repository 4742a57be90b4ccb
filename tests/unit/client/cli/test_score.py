"""`scoreline score`: what it prints, and what its exit codes mean."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from scoreline_client.cli import score as cli_score
from scoreline_client.cli.main import main
from scoreline_client.cli.score import clock, options_of, sentence
from scoreline_client.errors import ServerUnreachable
from scoreline_client.files.run import ScoreSummary
from scoreline_client.settings import ClientSettings
from scoreline_client.testing import FakeScoreline
from tests.support.bulk import names_in

RECORD = ".scoreline.journal"


@pytest.fixture(scope="module")
def scoreline() -> Iterator[FakeScoreline]:
    from tests.support.bulk import LOADED

    with FakeScoreline(models={}) as fake:
        fake._worker.serve(LOADED)
        yield fake


@pytest.fixture
def run(scoreline: FakeScoreline, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setattr(cli_score, "AsyncClient", scoreline.async_client)

    def call(*arguments: object) -> Result:
        words = ["score", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", ["scoreline", *words])
        return CliRunner().invoke(main, words)

    return call


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.csv"
    path.write_text("id,a\n1,9\n2,x\n3,1\n")
    return path


def test_all_rows_scored_is_0(run: Callable[..., Result], source: Path) -> None:
    source.write_text("id,a\n1,9\n")
    done = run("threshold", source, source.with_name("out.csv"))
    assert (done.exit_code, done.stderr) == (0, "")
    assert "1 row, 1 scored, 0 rejected, by threshold@4 in" in done.stdout


def test_some_rows_rejected_is_1(run: Callable[..., Result], source: Path) -> None:
    done = run("threshold", source, source.with_name("out.csv"))
    assert done.exit_code == 1
    assert "1 row rejected: a value of another type" in done.stdout
    assert "(E_TYPE)" in done.stdout
    assert "rejected rows are listed in" in done.stdout


def test_an_empty_field_stays_missing_beside_others_that_are_named() -> None:
    assert options_of({"nulls": ("NA", "-")}).nulls == ("", "NA", "-")
    assert options_of({"nulls": ()}).nulls == ("",)


def test_a_file_that_is_refused_is_2(run: Callable[..., Result], source: Path) -> None:
    done = run("threshold", source.with_name("none.csv"), source.with_name("out.csv"))
    assert done.exit_code == 2
    assert "cannot be read: No such file" in done.stderr


def test_options_that_do_not_go_together_are_2(run: Callable[..., Result], source: Path) -> None:
    done = run("threshold", source, source.with_name("out.csv"), "--keep", "a", "--drop", "id")
    assert done.exit_code == 2
    assert "Error: --keep and --drop exclude each other" in done.stderr


def test_too_many_errors_is_2_and_keeps_what_is_known(
    run: Callable[..., Result], source: Path
) -> None:
    done = run("threshold", source, source.with_name("out.csv"), "--max-errors", "10%")
    assert done.exit_code == 2
    assert "1 of the first 3 rows were rejected, more than 10%" in done.stderr
    assert "out.csv.errors.csv.part" in names_in(source.parent)


def test_an_unknown_model_is_2(run: Callable[..., Result], source: Path) -> None:
    done = run("nobody", source, source.with_name("out.csv"))
    assert done.exit_code == 2
    assert names_in(source.parent) == ["in.csv"]


def test_json_has_progress_on_stderr_and_the_summary_on_stdout(
    run: Callable[..., Result], source: Path
) -> None:
    done = run("threshold", source, source.with_name("out.csv"), "--json")
    summary, progress = json.loads(done.stdout), json.loads(done.stderr.splitlines()[-1])
    assert (summary["event"], summary["rows"], summary["rejected_by_code"]) == (
        "summary",
        3,
        {"E_TYPE": 1},
    )
    assert (progress["event"], progress["percent"], progress["rows"]) == ("progress", 100.0, 3)


def test_nothing_is_shown_where_there_is_no_terminal(
    run: Callable[..., Result], source: Path
) -> None:
    done = run("threshold", source, source.with_name("out.csv"), "--quiet")
    assert (done.stdout, done.stderr) == ("", "")


def test_several_files_go_into_a_directory_and_a_bad_one_costs_no_other(
    run: Callable[..., Result], source: Path
) -> None:
    (source.parent / "bad.csv").write_text("x\n1\n")
    out = source.parent / "out"
    done = run("threshold", source.parent / "*.csv", out)
    assert done.exit_code == 2
    assert names_in(out) == [RECORD, "in.csv", "in.csv.errors.csv"]
    assert "bad.csv: column missing: 'a'" in done.stderr
    assert done.stdout.splitlines()[-1].startswith(
        "2 files (1 scored, 1 refused): 3 rows, 2 scored, 1 rejected, in "
    )


def test_a_directory_is_scored_with_one_total_and_one_exit_code(
    run: Callable[..., Result], source: Path
) -> None:
    (source.parent / "more.csv").write_text("a\n9\n")
    out = source.parent / "out"
    first = run("threshold", source.parent, out, "--json")
    assert first.exit_code == 1
    assert run("threshold", source.parent, out, "--quiet").stdout == ""
    done = run("threshold", source.parent, out, "--resume", "--json")
    totals = [json.loads(each.stdout.splitlines()[-1]) for each in (first, done)]
    assert [total.pop("seconds") >= 0 for total in totals] == [True, True]
    counts = {"event": "total", "files": 2, "rows": 4, "scored": 3, "rejected": 1, "exit_code": 1}
    new = {"files_scored": 2, "files_done_before": 0, "files_refused": 0}
    old = {"files_scored": 0, "files_done_before": 2, "files_refused": 0}
    assert totals == [
        counts | new | {"rejected_by_code": {"E_TYPE": 1}},
        counts | old | {"rejected_by_code": {}},
    ]


def test_files_that_are_done_are_not_scored_again_and_count_as_they_did(
    run: Callable[..., Result], source: Path
) -> None:
    out = source.parent / "out"
    good = source.with_name("good.csv")
    good.write_text("id,a\n1,9\n")
    run("threshold", source, good, f"{out}/")
    before = (out / "in.csv").stat()
    done = run("threshold", source, good, f"{out}/", "--resume")
    assert done.exit_code == 1, "a row of in.csv was rejected"
    assert "in.csv is done: scored by threshold@4, 1 of 3 rows rejected" in done.stdout
    assert (out / "in.csv").stat().st_mtime_ns == before.st_mtime_ns
    assert run("threshold@4", good, f"{out}/", "--resume").exit_code == 0


def _scored_again(run: Callable[..., Result], source: Path, *arguments: str) -> bool:
    """Whether a run that goes on with a directory of done files scores this one."""
    out = source.parent / "out"
    done = run("threshold", source, f"{out}/", "--resume", *arguments)
    assert done.exit_code == 1
    assert ("3 rows, 2 scored" in done.stdout) != ("is done" in done.stdout)
    return "is done" not in done.stdout


def test_a_done_file_is_scored_again_with_other_options(
    run: Callable[..., Result], source: Path
) -> None:
    run("threshold", source, f"{source.parent / 'out'}/")
    assert _scored_again(run, source, "--keep", "id")
    assert not _scored_again(run, source, "--keep", "id")
    assert not _scored_again(run, source, "--keep", "id", "--max-errors", "5")


def test_a_done_file_is_scored_again_when_its_input_is_another_one(
    run: Callable[..., Result], source: Path
) -> None:
    run("threshold", source, f"{source.parent / 'out'}/")
    times = source.stat()
    source.write_text("id,a\n1,9\n2,x\n3,2\n")
    os.utime(source, (times.st_atime - 60, times.st_mtime - 60))
    assert _scored_again(run, source)


@pytest.mark.parametrize("change", ["touched", "other bytes", "gone", "record gone", "record torn"])
def test_a_done_file_is_scored_again_when_the_output_is_not_known_to_be_its_own(
    run: Callable[..., Result], source: Path, change: str
) -> None:
    out = source.parent / "out"
    run("threshold", source, f"{out}/")
    record = out / RECORD
    if change == "touched":
        os.utime(out / "in.csv")
    elif change == "other bytes":
        (out / "in.csv").write_text("something else")
    elif change == "gone":
        (out / "in.csv").unlink()
    elif change == "record gone":
        record.unlink()
    else:
        record.write_bytes(record.read_bytes()[:-20])
    assert _scored_again(run, source)
    assert not _scored_again(run, source)


def test_a_done_file_is_scored_again_by_another_version(
    run: Callable[..., Result], source: Path, scoreline: FakeScoreline
) -> None:
    from tests.support.bulk import LOADED

    run("threshold", source, f"{source.parent / 'out'}/")
    scoreline._worker.serve(dataclasses.replace(LOADED, version=5))
    try:
        assert _scored_again(run, source)
    finally:
        scoreline._worker.serve(LOADED)


def test_a_done_file_of_another_model_does_not_stand_in_for_an_unknown_one(
    run: Callable[..., Result], source: Path
) -> None:
    out = source.parent / "out"
    run("threshold", source, f"{out}/")
    assert run("whatever@9", source, f"{out}/", "--resume").exit_code == 2


def test_a_done_file_with_more_errors_than_are_wanted_now_is_refused(
    run: Callable[..., Result], source: Path
) -> None:
    out = source.parent / "out"
    run("threshold", source, f"{out}/")
    assert run("threshold", source, f"{out}/", "--resume", "--max-errors", "0").exit_code == 2


def test_an_input_that_is_gone_costs_no_other_file(
    run: Callable[..., Result], source: Path
) -> None:
    out = source.parent / "out"
    gone = source.with_name("gone.csv")
    gone.write_text("id,a\n1,9\n")
    run("threshold", gone, f"{out}/")
    gone.unlink()
    done = run("threshold", gone, source, f"{out}/", "--resume")
    assert done.exit_code == 2
    assert "gone.csv: it cannot be read" in done.stderr
    assert (out / "in.csv").exists()


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_directory_that_cannot_be_made_is_refused(
    run: Callable[..., Result], source: Path, place: str
) -> None:
    (source.parent / "file").write_text("")
    done = run("threshold", source, f"{source.parent / place}/")
    assert done.exit_code == 2
    assert "cannot be written" in done.stderr


@pytest.mark.parametrize("target", [".", "./", "..", "/", "//", "sub/.."])
def test_a_directory_by_any_name_is_one(
    run: Callable[..., Result], source: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    (source.parent / "work" / "sub").mkdir(parents=True)
    monkeypatch.chdir(source.parent / "work")
    done = run("threshold", "gone.csv", target)
    assert (done.exit_code, done.stderr) == (
        2,
        "Error: gone.csv: it cannot be read: No such file or directory\n",
    )
    if not target.startswith("/"):
        assert run("threshold", "../in.csv", target, "--quiet").exit_code == (
            2 if target == ".." else 1
        )
        assert (source.parent / "work" / "in.csv").exists() == (target != "..")


@pytest.mark.parametrize("words", [("in.csv", ""), ("", "out.csv"), ("", "")])
def test_an_empty_name_is_a_usage_error(run: Callable[..., Result], words: tuple[str, str]) -> None:
    done = run("threshold", *words)
    assert done.exit_code == 2
    assert "it is empty; name a file" in done.stderr


@pytest.mark.parametrize("option", ["--keep", "--drop", "--outputs", "--id"])
def test_an_option_without_a_name_is_refused(
    run: Callable[..., Result], source: Path, option: str
) -> None:
    done = run("threshold", source, source.with_name("out.csv"), option, "")
    assert done.exit_code == 2
    assert option in done.stderr
    assert names_in(source.parent) == ["in.csv"]


@pytest.mark.parametrize("word", ["", "DD.MM.YYYY"])
def test_a_format_of_dates_that_is_none_is_refused(
    run: Callable[..., Result], source: Path, word: str
) -> None:
    done = run("threshold", source, source.with_name("out.csv"), "--date-format", word)
    assert done.exit_code == 2
    assert "such as %d.%m.%Y, or excel" in done.stderr


def test_who_closes_standard_output_ends_the_run_quietly(
    run: Callable[..., Result], source: Path
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    kept = os.dup(1)
    os.dup2(writing, 1)
    try:
        done = run("threshold", source, "-")
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(writing)
    assert (done.exit_code, done.stderr) == (141, "")


def test_a_target_that_was_forgotten_is_named(run: Callable[..., Result], source: Path) -> None:
    done = run("threshold", source)
    assert done.exit_code == 2
    assert "Missing argument 'TARGET'" in done.stderr


def test_nothing_but_outputs_and_one_hidden_record_is_in_a_directory(
    run: Callable[..., Result], source: Path
) -> None:
    out = source.parent / "out"
    run("threshold", source, f"{out}/")
    assert names_in(out) == [RECORD, "in.csv", "in.csv.errors.csv"]
    run("threshold", source, source.with_name("single.csv"))
    assert RECORD not in names_in(source.parent)


@pytest.mark.parametrize(("number", "code"), [(2, 130), (15, 143)])
def test_a_signal_ends_a_run_in_order_and_says_how_to_go_on(
    run: Callable[..., Result],
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    code: int,
) -> None:
    monkeypatch.setattr(
        cli_score, "shown_progress", lambda *_, **__: _Once(lambda _: os.kill(os.getpid(), number))
    )
    source.write_text("id,a\n" + "1,9\n" * 300_000)
    done = run("threshold", source, source.with_name("out.csv"), "--restart")
    assert done.exit_code == code
    assert f"to go on: scoreline score threshold {source}" in done.stderr
    assert done.stderr.rstrip().endswith("--resume")
    assert {"out.csv.part", "out.csv.journal"} <= set(names_in(source.parent))
    monkeypatch.undo()


def _summary(**values: Any) -> ScoreSummary:
    counts: dict[str, Any] = {"rows": 3, "scored": 2, "rejected": 1, "rejected_by_code": {}}
    names = {"model": "m", "version": 1, "source": "in.csv", "target": "out.csv", "warnings": {}}
    return ScoreSummary(**counts | names | {"seconds": 1.5, "rows_per_s": 2.0} | values)


def test_one_row_is_one_row_and_every_code_of_a_row_has_a_reason() -> None:
    total = cli_score._Total(scored=1, refused=1, rows=1)
    assert total.sentence().startswith("2 files (1 scored, 1 refused): 1 row, 1 scored, 0 rejected")
    summary = _summary(rejected_by_code={"E_DUPLICATE_KEY": 1})
    assert "1 row rejected: a key that is there twice in an object (E_DUP" in sentence(summary)


class _Ends:
    """A client that loses its server, after some files, and leaves these files beside the output."""

    def __init__(self, *beside: str, scored: int = 0) -> None:
        self._beside, self._scored = beside, scored
        self.settings = ClientSettings()

    async def __aenter__(self) -> _Ends:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def score_file(self, model: str, source: str, target: str, **_: object) -> ScoreSummary:
        if self._scored:
            self._scored -= 1
            return _summary(source=source, target=target)
        for ending in self._beside:
            await asyncio.to_thread(Path(f"{target}.{ending}").write_text, "")
        raise ServerUnreachable(*DOWN)


def _ended(run: Callable[..., Result], ends: _Ends, *words: object) -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli_score, "AsyncClient", lambda: ends)
        return run("threshold", *words, "--quiet").stderr.splitlines()


DOWN = ("redis://h:1", "it is down")


def test_how_to_go_on_is_said_behind_the_error_where_there_is_something_to_go_on_with(
    run: Callable[..., Result], source: Path
) -> None:
    out, error = source.with_name("out.csv"), f"Error: {ServerUnreachable(*DOWN)}"
    assert _ended(run, _Ends(), source, out) == [error]
    assert _ended(run, _Ends("journal"), source, out) == [error]
    assert _ended(run, _Ends("part", "journal"), source, out) == [
        error,
        f"what was scored is kept; to go on: scoreline score threshold {source} {out} --quiet --resume",
    ]
    assert _ended(run, _Ends("part", "journal"), "-", out) == [error]


def test_of_several_files_what_is_done_is_something_to_go_on_with(
    run: Callable[..., Result], source: Path
) -> None:
    source.with_name("b.csv").write_text("id,a\n1,9\n")
    out = source.parent / "out"
    assert len(_ended(run, _Ends(), source.parent, out)) == 1
    assert len(_ended(run, _Ends(scored=1), source.parent, out)) == 2


def test_a_disk_that_was_full_before_anything_was_scored_keeps_nothing(
    run: Callable[..., Result], source: Path
) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        done = run("threshold", source, source.with_name("out.csv"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert done.exit_code == 2
    assert done.stderr.splitlines() == [
        f"Error: {source.with_name('out.csv')}: there is no room left on the disk that it is written to"
    ]
    assert names_in(source.parent) == ["in.csv"]


def test_what_cannot_be_resumed_is_not_said_to_go_on(
    run: Callable[..., Result], source: Path
) -> None:
    limit = ("--max-errors", "0")
    assert "--resume" in run("threshold", source, source.with_name("o.csv"), *limit).stderr
    assert "--resume" not in run("threshold", source, "/dev/null", *limit).stderr


class _Once:
    """A context in which a function is called with the first piece of news."""

    def __init__(self, show: Callable[[object], None]) -> None:
        self._show = show

    def __enter__(self) -> Callable[[object], None]:
        return self._call

    def __exit__(self, *_: object) -> None:
        pass

    def _call(self, now: object) -> None:
        show, self._show = self._show, lambda _: None
        show(now)


def test_names_with_a_comma_stand_in_quotes(run: Callable[..., Result], source: Path) -> None:
    source.write_text('"i,d",a,b\n1,9,2\n')
    run("threshold", source, source.with_name("out.csv"), "--keep", '"i,d",b', "--quiet")
    assert source.with_name("out.csv").read_text().startswith('"i,d",b,prediction')


def test_help_has_examples_and_exit_codes(run: Callable[..., Result]) -> None:
    text = run("--help").stdout
    assert "Examples:" in text
    assert "Exit codes:" in text
    assert "--resume" in text


def test_a_time_span_is_shown_as_a_clock_does() -> None:
    assert clock(3725.4) == "1:02:05"


def test_progress_on_a_terminal_tells_what_the_run_says() -> None:
    import io

    from rich.console import Console

    from scoreline_client.cli.score import shown_progress
    from scoreline_client.files.run import BulkProgress

    now = BulkProgress(
        rows=5000, rejected=3, done=25, total=100, unit="bytes", seconds=2.0, rows_per_s=2500.0,
        seconds_left=61.0, version=3, source="data/in.csv",
    )  # fmt: skip
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=100)
    with shown_progress(console, as_json=False, quiet=False) as show:
        assert show is not None
        show(now)
    shown = text.getvalue()
    for part in ("in.csv", "25.0 %", "5,000 rows", "2,500 rows/s", "0:01:01 left", "3 rejected"):
        assert part in shown
    assert "v3" in shown


def test_a_file_that_waits_for_workers_says_so_on_a_terminal() -> None:
    import io

    from rich.console import Console

    from scoreline_client.cli.score import shown_progress
    from scoreline_client.files.run import BulkProgress

    now = BulkProgress(
        rows=5000, rejected=3, done=25, total=100, unit="bytes", seconds=2.0, rows_per_s=2500.0,
        seconds_left=61.0, version=3, source="data/in.csv",
        waiting="no worker for 12 s; waiting until 60 s",
    )  # fmt: skip
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=100)
    with shown_progress(console, as_json=False, quiet=False) as show:
        assert show is not None
        show(now)
    assert "25.0 %  no worker for 12 s; waiting until 60 s" in text.getvalue()
    assert now.as_json()["waiting"] == "no worker for 12 s; waiting until 60 s"


def test_a_summary_has_a_line_for_each_code_and_note() -> None:
    summary = _summary(
        rejected_by_code={"E_TYPE": 1},
        warnings={"W_X a": 2},
        errors="out.csv.errors.csv",
        notes=("a note",),
    )
    assert sentence(summary).splitlines()[1:] == [
        "  1 row rejected: a value of another type, such as text where a number is expected (E_TYPE)",
        "  warning: 2 values of a are unusual (W_X)",
        "  a note",
        "  rejected rows are listed in out.csv.errors.csv",
    ]
