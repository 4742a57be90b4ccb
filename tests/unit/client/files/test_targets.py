"""Outputs that are no ordinary new files: written through, followed or refused, and never replaced unasked."""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from itertools import product
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from scoreline_client.errors import FileRefused, ScorelineError
from scoreline_client.files.checkpoint import FinishedFiles
from scoreline_client.files.run import BulkProgress
from scoreline_client.files.sink import Target, is_many
from tests.support.bulk import SMALL, names_in, run

OUTPUT = "id,a,prediction,probability_no,probability_yes,error\n1,9,yes,0.25,0.75,\n2,x,,,,E_TYPE: "


def _read_in_background(path: Path) -> tuple[threading.Thread, list[str]]:
    read: list[str] = []
    thread = threading.Thread(target=lambda: read.append(path.read_text()))
    thread.start()
    return thread, read


def test_a_named_pipe_is_written_through_and_stays_one(source: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "out.csv"
    os.mkfifo(pipe)
    reader, read = _read_in_background(pipe)
    summary = run(source, pipe)
    reader.join(10)
    assert read[0].startswith(OUTPUT)
    assert stat.S_ISFIFO(pipe.lstat().st_mode)
    assert summary.errors is None
    assert names_in(tmp_path) == ["in.csv", "out.csv"]


def test_a_named_pipe_without_a_reader_is_waited_for(source: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "out.csv"
    os.mkfifo(pipe)
    assert Target(str(pipe), "").open_stream() is None
    read: list[str] = []
    late = threading.Timer(0.3, lambda: read.append(pipe.read_text()))
    late.start()
    run(source, pipe)
    late.join(10)
    assert read[0].startswith(OUTPUT)


def test_a_pipe_that_is_a_links_end_is_written_through(source: Path, tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "out.csv"
    os.mkfifo(pipe)
    link.symlink_to("pipe")
    reader, read = _read_in_background(pipe)
    run(source, link)
    reader.join(10)
    assert read[0].startswith(OUTPUT)
    assert (link.is_symlink(), pipe.is_fifo()) == (True, True)


def test_a_device_is_written_through_and_stays_one(source: Path) -> None:
    run(source, "/dev/null")
    assert Path("/dev/null").is_char_device()
    assert not Path("/dev/null.journal").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
def test_nothing_is_said_to_be_kept_where_nothing_is(source: Path) -> None:
    with pytest.raises(FileRefused, match="no room left on the disk that it is written to"):
        run(source, "/dev/full")


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/fd/1", "link"])
def test_standard_output_has_several_names(
    source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / "link").symlink_to("/dev/stdout")
    target = str(tmp_path / name) if name == "link" else name
    assert Target(target, "").descriptor == 1
    run(source, target)
    assert capfd.readouterr().out.startswith(OUTPUT)


def test_an_open_file_has_its_number_as_a_name(source: Path, tmp_path: Path) -> None:
    """As a shell gives it to a program: `scoreline score pima in.csv >(gzip > out.csv.gz)`."""
    reading, writing = os.pipe()
    run(source, f"/dev/fd/{writing}")
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert pipe.read().startswith(OUTPUT)
    with pytest.raises(FileRefused, match="it cannot be written: Bad file descriptor"):
        run(source, "/dev/fd/999")


@pytest.mark.parametrize("name", ["out.xlsx", "out.XLS", "out.ods"])
def test_a_spreadsheets_own_file_is_not_written(source: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(FileRefused, match=r"spreadsheets are not written.*\.csv"):
        run(source, tmp_path / name)
    assert names_in(tmp_path) == ["in.csv"]


@pytest.mark.parametrize(
    "name", ["o.zip", "o.txt.bz2", "o.CSV.XZ", "o.zip.gz", "o.json", "o.feather"]
)
def test_a_file_that_would_not_be_what_its_name_says_is_refused(
    source: Path, tmp_path: Path, name: str
) -> None:
    with pytest.raises(FileRefused, match=r"is not written: name it \.csv"):
        run(source, tmp_path / name)
    assert names_in(tmp_path) == ["in.csv"]


@pytest.mark.parametrize(
    "name", ["o", "o.txt", "o.dat", "o.csv.bak", "o.tsv", "2024.10", "o.csv.gz"]
)
def test_other_endings_are_of_text(source: Path, tmp_path: Path, name: str) -> None:
    assert run(source, tmp_path / name).rows == 2


PARTS = [
    "",
    ".",
    "..",
    "/",
    "//",
    "a",
    "-",
    "~",
    "\0",
    "\udcff",
    "é",
    "*",
    "?",
    "[",
    "://",
    "file",
    "memory",
]
PARTS += ["::", "/dev/fd/", "1", "9" * 30, "٣", "x" * 300, ".xlsx", ".gz", "\n"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(PARTS), max_size=6).map("".join) | st.text(max_size=6))
@example(".")
@example("./")
@example("/")
@example("")
def test_whatever_a_target_is_called_it_can_be_written_or_is_refused(
    source: Path, tmp_path: Path, name: str
) -> None:
    is_many((str(source),), name)
    with suppress(ScorelineError):
        Target(name, str(tmp_path / "state")).check(str(source))


def test_what_is_no_file_cannot_be_resumed(source: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "out.csv")
    with pytest.raises(FileRefused, match="output to what is no file cannot be resumed"):
        run(source, tmp_path / "out.csv", resume=True)


def test_a_table_that_is_written_out_of_order_needs_a_file(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"a": [9.5]}), tmp_path / "in.parquet")
    with pytest.raises(FileRefused, match="Parquet is read and written out of order"):
        run(tmp_path / "in.parquet", "/dev/null")


# Links


@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_is_followed(source: Path, tmp_path: Path, is_there: bool) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    if is_there:
        (folder / "real.csv").write_text("old")
    (tmp_path / "middle").symlink_to("data/real.csv")
    (tmp_path / "out.csv").symlink_to("middle")
    summary = run(source, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").is_symlink()
    assert (tmp_path / "middle").is_symlink()
    assert (folder / "real.csv").read_text().startswith(OUTPUT)
    assert summary.errors == str(folder / "real.csv.errors.csv")
    assert names_in(folder) == ["real.csv", "real.csv.errors.csv"]


def test_a_run_through_a_link_is_resumed_by_either_name(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("id,a\n" + "1,9\n2,x\n" * 20_000)
    (tmp_path / "out.csv").symlink_to("real.csv")

    def stop(now: BulkProgress) -> None:
        if now.rows > 10_000:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        run(source, tmp_path / "out.csv", progress=stop, sizes=SMALL)
    summary = run(source, tmp_path / "real.csv", resume=True, sizes=SMALL)
    run(source, tmp_path / "whole.csv", sizes=SMALL)
    assert any("resumed behind row" in note for note in summary.notes)
    for ending in ("", ".errors.csv"):
        one, other = tmp_path / f"real.csv{ending}", tmp_path / f"whole.csv{ending}"
        assert one.read_bytes() == other.read_bytes()


def test_links_that_lead_nowhere_are_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out.csv").symlink_to("other.csv")
    (tmp_path / "other.csv").symlink_to("out.csv")
    with pytest.raises(FileRefused, match="its links lead back to themselves"):
        run(source, tmp_path / "out.csv")
    (tmp_path / "gone.csv").symlink_to("nowhere/out.csv")
    with pytest.raises(FileRefused, match="there is no directory"):
        run(source, tmp_path / "gone.csv")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes another user's link")
def test_another_users_link_in_a_folder_of_all_is_not_followed(
    source: Path, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    link = shared / "out.csv"
    link.symlink_to(tmp_path / "victim")
    os.chown(link, 12345, 12345, follow_symlinks=False)
    with pytest.raises(FileRefused, match="another user's link in a folder that all may write to"):
        run(source, link)
    assert not (tmp_path / "victim").exists()


# Files beside the output


def _link(path: Path, victim: Path) -> None:
    path.symlink_to(victim)


def _hard_link(path: Path, victim: Path) -> None:
    path.hardlink_to(victim)


def _pipe(path: Path, victim: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path, victim: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


@pytest.mark.parametrize(
    ("ending", "make"),
    [
        *product([".journal", ".errors.csv", ".errors.csv.part", ".part"], [_link, _pipe, _socket]),
        (
            ".journal",
            _hard_link,
        ),  # the others are removed and made anew: a hard link loses its name
    ],
)
def test_what_somebody_has_put_beside_an_output_is_not_written_to(
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ending: str,
    make: Callable[[Path, Path], None],
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's name must be short
    victim = tmp_path / "bashrc"
    victim.write_text("precious")
    beside = Path(f"out.csv{ending}")
    make(beside, victim)
    before = (beside.lstat().st_ino, beside.lstat().st_mode)
    with pytest.raises(FileRefused, match=r"remove it"):
        run(source, "out.csv")
    assert victim.read_text() == "precious"
    assert (beside.lstat().st_ino, beside.lstat().st_mode) == before
    assert not Path("out.csv").exists()


def test_a_directorys_record_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / ".scoreline.journal").symlink_to("victim")
    with pytest.raises(FileRefused, match="it is a link, and a file is to be written there"):
        FinishedFiles(str(tmp_path))


@pytest.mark.parametrize("kind", ["a socket", "a directory"])
def test_what_cannot_be_written_to_is_refused(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if kind == "a socket":
        _socket(Path("out.csv"), source)
    else:
        Path("out.csv").mkdir()
    with pytest.raises(FileRefused, match=f"it is {kind}; name a file"):
        run(source, "out.csv")


# Modes


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_a_file_that_is_made_again_keeps_its_mode(source: Path, tmp_path: Path, mode: int) -> None:
    target = tmp_path / "out.csv"
    target.write_text("old")
    target.chmod(mode)
    run(source, target)
    assert target.read_text().startswith(OUTPUT)
    assert _mode(target) == mode
    assert _mode(tmp_path / "out.csv.errors.csv") == mode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has every group")
def test_a_file_that_is_made_again_keeps_its_group_and_owner(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    target.write_text("old")
    os.chown(target, 12345, 54321)
    run(source, target)
    info = target.stat()
    assert (info.st_uid, info.st_gid) == (12345, 54321)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has every group")
def test_a_group_that_cannot_be_kept_leaves_no_rights_to_another(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.csv"
    target.write_text("old")
    target.chmod(0o664)
    os.chown(target, -1, 54321)

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "chown", refuse)
    run(source, target)
    assert _mode(target) == 0o644


def test_a_new_file_has_the_mode_of_new_files_and_nobody_reads_it_before(
    source: Path, tmp_path: Path
) -> None:
    (tmp_path / "like").write_text("")
    seen: dict[str, int] = {}

    def note(_: object) -> None:
        seen.update({path.name: _mode(path) for path in tmp_path.glob("out.csv*")})

    run(source, tmp_path / "out.csv", progress=note)
    assert seen == dict.fromkeys(
        ["out.csv.part", "out.csv.journal", "out.csv.errors.csv.part"], 0o600
    )
    assert _mode(tmp_path / "out.csv") == _mode(tmp_path / "like")
    assert _mode(tmp_path / "out.csv.errors.csv") == _mode(tmp_path / "like")
    assert names_in(tmp_path) == ["in.csv", "like", "out.csv", "out.csv.errors.csv"]
