"""What the benchmarks make of their figures. The figures themselves are nothing for tests."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from benchmarks import documentation, report
from benchmarks.measures import Row, alone, at_least, at_most, minus, times

PAGE = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"


def _rows() -> list[Row]:
    return [
        times("rate", "a second", [40, 90], "other", [1, 2], goal=at_least(42)),
        minus("wait", "ms", [3.0, 4.0], "own", [1.0, 1.5], goal=at_most(2)),
        alone("start", "s", [1_000_000.0], goal=at_most(1_234_567)),
    ]


def _write(results: Path, name: str, rows: list[Row], at: str = "20260101T000000Z") -> None:
    machine = {"cores": 2, "processor": "chip", "system": "os", "python": "3.11"}
    said = {"at": "2026-01-01T00:00:00", "machine": machine, "versions": {"redis": "8"}}
    lines = [row.as_json() for row in rows]
    (results / f"{at}-{name}.json").write_bytes(orjson.dumps({**said, "rows": lines}))


def test_a_ratio_is_taken_within_each_repeat() -> None:
    row = times("rate", "a second", [10, 30], "other", [1, 10])
    assert row.related is not None
    assert (row.related.lowest, row.related.median, row.related.highest) == (3, 6.5, 10)


def test_repeats_that_were_not_measured_side_by_side_have_no_ratio() -> None:
    with pytest.raises(ValueError, match="shorter"):
        times("rate", "a second", [1, 2], "other", [1])


def test_a_goal_is_held_against_what_a_row_is_about() -> None:
    assert [row.is_met for row in _rows()] == [True, False, True]


def test_the_page_gets_the_newest_figures_of_each_benchmark_and_keeps_its_text(
    tmp_path: Path,
) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    _write(tmp_path, "online", [alone("stale", "ms", [1.0])])
    _write(tmp_path, "online", _rows(), at="20260102T000000Z")
    assert documentation.render(["online", "bulk"], page, tmp_path) == ["online"]
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "stale" not in text
    assert report.markdown("online", _rows()) in text


def test_a_table_that_was_not_measured_again_stays_on_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    _write(tmp_path, "online", _rows())
    _write(tmp_path, "bulk", [alone("old", "ms", [1.0])])
    documentation.render(["online", "bulk"], page, tmp_path)
    before = page.read_text()
    for path in tmp_path.glob("*Z-online.json"):
        path.unlink()
    _write(tmp_path, "bulk", [alone("newer", "ms", [2.0])])
    assert documentation.render(["online", "bulk"], page, tmp_path) == ["bulk"]
    assert page.read_text() == before.replace("| old, ms | 1.00 |", "| newer, ms | 2.00 |")


def test_a_page_without_a_place_for_figures_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing")
    _write(tmp_path, "online", _rows())
    with pytest.raises(ValueError, match="no place"):
        documentation.render(["online"], page, tmp_path)
