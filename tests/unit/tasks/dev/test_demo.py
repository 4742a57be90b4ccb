"""The made-up rows of the demo and the benchmarks."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from scoreline_tasks.dev import demo
from scoreline_tasks.dev.demo import records, write_csv

COLUMNS = ["preg", "plas", "pres", "skin", "test", "mass", "pedi", "age"]


def test_a_seed_makes_the_same_file_again(tmp_path: Path) -> None:
    write_csv(tmp_path / "one.csv", 500, seed=7)
    write_csv(tmp_path / "two.csv", 500, seed=7)
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()


def test_a_file_has_as_many_rows_as_asked_for(tmp_path: Path) -> None:
    rows = demo.ROWS_AT_ONCE + 5
    write_csv(tmp_path / "rows.csv", rows)
    frame = pd.read_csv(tmp_path / "rows.csv")
    assert (list(frame.columns), len(frame)) == (COLUMNS, rows)


def test_rows_lie_within_the_ranges_of_the_data(tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", 5000)
    frame = pd.read_csv(tmp_path / "rows.csv")
    assert frame["age"].between(21, 81).all()
    assert frame["mass"].between(0, 67.1).all()


def test_records_are_plain_values_by_column() -> None:
    first, second = records(2, seed=1)
    assert list(first) == COLUMNS
    assert first != second
    assert {type(value) for value in first.values()} == {int, float}
