"""A file is cut at the same rows in every run, and scored into a file of its own format."""

from __future__ import annotations

from pathlib import Path

import pytest

from scoreline_client.errors import FileRefused, SettingsError
from scoreline_client.files.chunks import ChunkSize
from scoreline_client.files.reader import DEFAULT_SIZES
from tests.support.bulk import run


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


def test_another_format_than_the_inputs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id,a\n1,9\n")
    with pytest.raises(FileRefused, match="the input is csv and the output would be jsonl"):
        run(tmp_path / "in.csv", tmp_path / "out.jsonl")


def test_an_option_that_says_nothing_of_a_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"a":1}\n')
    with pytest.raises(SettingsError, match="delimiter is ';'; expected none: the input is jsonl"):
        run(tmp_path / "in.jsonl", tmp_path / "out.jsonl", delimiter=";")
