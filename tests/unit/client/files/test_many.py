"""Several inputs go into one directory, and what is finished there is known."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from scoreline_client.errors import FileRefused
from scoreline_client.files.checkpoint import FinishedFiles
from scoreline_client.files.sink import Target, is_many, outputs_for
from scoreline_client.files.source import facts_of
from scoreline_client.options import BulkOptions
from scoreline_client.protocol.messages import ModelRef
from tests.support.bulk import CSV, names_in, run


def test_a_pattern_gives_each_file_its_output_in_a_directory(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "c.txt"):
        (tmp_path / name).write_text(CSV)
    pairs = outputs_for([str(tmp_path / "*.csv")], str(tmp_path / "out"))
    assert [(Path(one).name, Path(other).name) for one, other in pairs] == [
        ("a.csv", "a.csv"),
        ("b.csv", "b.csv"),
    ]
    assert (tmp_path / "out").is_dir()


def test_a_pattern_of_a_url_is_expanded(memory: Any) -> None:
    memory.pipe_file("/bucket/a.csv", b"")
    memory.pipe_file("/bucket/b.csv", b"")
    pairs = outputs_for(["memory://bucket/*.csv"], "memory://scored")
    assert pairs == [
        ("memory:///bucket/a.csv", "memory://scored/a.csv"),
        ("memory:///bucket/b.csv", "memory://scored/b.csv"),
    ]


def test_a_directory_gives_its_tables(tmp_path: Path) -> None:
    source = tmp_path / "visits [2024]"
    source.mkdir()
    for name in (
        "b.csv",
        "a.TSV.gz",
        "c.parquet",
        "d.jsonl",
        "a.csv.errors.csv",
        ".h.csv",
        "n.txt",
    ):
        (source / name).write_text(CSV)
    (source / "more.csv").mkdir()
    pairs = outputs_for([f"{source}/"], str(tmp_path / "out"))
    assert [Path(one).name for one, _ in pairs] == ["a.TSV.gz", "b.csv", "c.parquet", "d.jsonl"]
    assert is_many((str(source),), "out")


def test_a_file_is_no_directory_for_several_outputs(tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    for name in ("a.csv", "out.csv"):
        (tmp_path / name).write_text(CSV)
    with pytest.raises(FileRefused, match="it is a file; several inputs go into a directory"):
        outputs_for([str(tmp_path / "a*.csv")], str(target))


def test_standard_output_is_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.csv").touch()
    monkeypatch.chdir(tmp_path)
    for sources in (["a.csv", "a.csv"], ["*.csv"], ["."]):
        assert is_many(tuple(sources), "-")
        with pytest.raises(FileRefused, match="not to standard output"):
            outputs_for(sources, "-")
    assert names_in(tmp_path) == ["a.csv"]
    (tmp_path / "-").mkdir()
    assert not is_many(("a.csv",), "-")


def test_a_directory_of_a_url_gives_its_tables(memory: Any) -> None:
    memory.pipe_file("/bucket/a.csv", b"")
    memory.pipe_file("/bucket/a.txt", b"")
    pairs = outputs_for(["memory://bucket/"], "memory://scored")
    assert pairs == [("memory:///bucket/a.csv", "memory://scored/a.csv")]


def test_a_directory_without_tables_or_into_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match="no file of this directory is a table by its name"):
        outputs_for([str(tmp_path)], str(tmp_path / "out"))
    with pytest.raises(FileRefused, match="input and output are the same directory"):
        outputs_for([str(tmp_path)], f"{tmp_path}/")


def test_a_pattern_that_matches_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match="no file matches"):
        outputs_for([str(tmp_path / "*.csv")], str(tmp_path / "out"))


def test_two_inputs_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match="would both go here"):
        outputs_for(["x/a.csv", "y/a.csv"], str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("sources", "target", "many"),
    [
        (("a.csv",), "b.csv", False),
        (("a.csv", "b.csv"), "out", True),
        (("*.csv",), "out", True),
        (("a.csv",), "out/", True),
        (("a.csv",), "/tmp", True),
        (("s3://b/a.csv",), "s3://b/c.csv", False),
    ],
)
def test_several_inputs_go_into_a_directory(
    sources: tuple[str, ...], target: str, many: bool
) -> None:
    assert is_many(sources, target) is many


def test_an_output_whose_run_was_begun_anew_is_not_finished(source: Path) -> None:
    target = Target(str(source.with_name("out.csv")), "")
    facts, options, model = facts_of(str(source)), BulkOptions(), ModelRef.parse("threshold")
    FinishedFiles(str(source.parent)).add(target, facts, options, run(source, target.name))
    finished = FinishedFiles(str(source.parent))
    assert finished.find(target, facts, model, options)
    target.part.touch()
    target.journal.touch()
    assert finished.find(target, facts, model, options) is None


def test_records_of_several_runs_at_once_are_all_kept(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(CSV)
    summary = run(tmp_path / "in.csv", tmp_path / "out.csv")

    def add(number: int) -> None:
        target = Target(str(tmp_path / f"{number}.csv"), "")
        target.final.touch()
        FinishedFiles(str(tmp_path)).add(target, {}, BulkOptions(), summary)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(200)))
    assert len(FinishedFiles(str(tmp_path)).by_target) == 200
