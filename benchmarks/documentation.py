"""Puts the newest figures of every benchmark into docs/performance.md, between its marks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from benchmarks import plan, report
from benchmarks.measures import Goal, Relation, Row, Spread

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
SCALING = PAGE.with_name("scaling.md")
PLANS = PAGE.with_name("plans.md")


def render(names: Sequence[str], page: Path = PAGE, results: Path = report.RESULTS) -> list[str]:
    """Replace the tables of the page by those of the newest files; gives whose tables are replaced.

    A table of which there is no file stays as it is.
    """
    newest = {name: figures for name in names if (figures := _newest(results, name)) is not None}
    if newest:
        document = page.read_text()
        tables = report.tables_in(document)
        tables |= {name: _table(name, figures) for name, figures in newest.items()}
        page.write_text(
            report.put_into(document, [tables[name] for name in names if name in tables])
        )
    return list(newest)


def _newest(results: Path, name: str) -> dict[str, Any] | None:
    files = sorted(results.glob(f"*Z-{name}.json"))
    read: dict[str, Any] | None = orjson.loads(files[-1].read_bytes()) if files else None
    return read


def _table(name: str, found: dict[str, Any]) -> str:
    if "pipelines" in found:
        rows = plan.markdown([plan.Dissolved(**read) for read in found["pipelines"]])
    else:
        rows = report.markdown(name, [_row(read) for read in found["rows"]])
    return f"{rows}\n\n{_measured_on(found)}"


def _measured_on(found: dict[str, Any]) -> str:
    machine = found["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    return (
        f"{found['at'][:10]}, {machine['cores']} cores ({machine['processor']}), "
        f"{machine['system']}, Python {machine['python']}; {versions}."
    )


def _row(read: dict[str, Any]) -> Row:
    """A row as `Row.as_json` has written it."""
    spreads = {
        name: Spread(**read[name]) if read[name] else None
        for name in ("measured", "baseline", "related")
    }
    assert spreads["measured"] is not None
    return Row(
        what=read["what"],
        unit=read["unit"],
        measured=spreads["measured"],
        against=read["against"],
        baseline=spreads["baseline"],
        relation=Relation(read["relation"]) if read["relation"] else None,
        related=spreads["related"],
        goal=_goal(read["goal"]) if read["goal"] else None,
    )


def _goal(text: str) -> Goal:
    sign, bound = text.split()
    return Goal(">=" if sign == "≥" else "<=", float(bound.replace(",", "")))
