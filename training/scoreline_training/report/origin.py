"""The sections about what a version takes, was proven with, and comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from scoreline_artifacts import Column
from scoreline_artifacts.golden import GoldenRow
from scoreline_training.report.blocks import Block, Cell, Columns, Facts, Note, Section, Table
from scoreline_training.report.charts import cut
from scoreline_training.report.data import ReportData
from scoreline_training.report.lineage import commit_here, data_sha256, platform_facts
from scoreline_training.report.svg import number

LISTED_COLUMNS = 300
GOLDEN_SHOWN = 5
GOLDEN_COLUMNS = 10
_CELL_LENGTH = 40


def schema_table(data: ReportData) -> Section:
    """What records are held to."""
    found = schema_of(data)
    rows = [
        [
            Cell(one.name, css="code"),
            one.type.value,
            Cell(one.dtype, css="code"),
            "may be missing" if one.nullable else "required",
            _values(one),
        ]
        for one in found[:LISTED_COLUMNS]
    ]
    left = len(found) - len(rows)
    table = Table(
        caption=f"{len(found):,} columns",
        headings=["column", "type", "pandas", "presence", "values in training"],
        rows=rows,
        text_columns=(0, 1, 2, 3, 4),
        note=f"{left:,} more columns are in the manifest." if left > 0 else "",
    )
    return Section(
        "schema", "Schema", "What a record must look like; taken from the training rows.", [table]
    )


def _values(column: Column) -> str:
    if column.categories is not None:
        shown = ", ".join(cut(str(one), 20) for one in column.categories[:8])
        left = len(column.categories) - 8
        return f"{shown}, … {left} more" if left > 0 else shown
    if column.minimum is None or column.maximum is None:
        return ""
    return f"{number(column.minimum)} to {number(column.maximum)}"


def schema_of(data: ReportData) -> Sequence[Column]:
    """The columns of the training frame."""
    return () if data.version.schema is None else data.version.schema.columns


def golden_rows(data: ReportData) -> Section:
    """Some of the records that every worker scores before it serves the version."""
    title = "Golden rows"
    lead = (
        f"{len(data.golden)} training rows travel with the version; a worker serves it only if it gives "
        "these answers."
    )
    shown = list(data.golden[:GOLDEN_SHOWN])
    if not shown:
        return Section("golden", title, "", [Note("There are none.")])
    names = list(shown[0].record)[:GOLDEN_COLUMNS]
    left = len(shown[0].record) - len(names)
    classes = data.version.classes
    has_probabilities = shown[0].probabilities is not None and classes is not None
    rows = [
        [
            *(Cell(_cell(row.record.get(name))) for name in names),
            Cell(_cell(row.value), css="answer"),
            *([Cell(_its_probability(row, classes or []))] if has_probabilities else []),
        ]
        for row in shown
    ]
    note = f"The first {len(shown)} of them."
    if left > 0:
        note = f"{note[:-1]}, and the first {len(names)} of {left + len(names):,} columns."
    headings = [*names, "answer", *(["its probability"] if has_probabilities else [])]
    table = Table(
        caption="Records and answers",
        headings=headings,
        rows=rows,
        text_columns=(),
        note=note,
        css="records",
    )
    return Section("golden", title, lead, [table])


def _its_probability(row: GoldenRow, classes: list[Any]) -> str:
    if row.probabilities is None or row.value not in classes:
        return "–"
    return f"{row.probabilities[classes.index(row.value)]:.3f}"


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, list):
        return cut("[" + ", ".join(map(_cell, value)) + "]", _CELL_LENGTH)
    return cut(str(value), _CELL_LENGTH)


# Origin


def origin(data: ReportData) -> Section:
    """Where the version comes from."""
    blocks: list[Block] = [Columns([Facts(_version(data), "Version"), Facts(_data(data), "Data")])]
    given = [Facts(flat(one), title) for one, title in _given(data) if one]
    if given:
        blocks.append(Columns(given))
    libraries = sorted(data.libraries.items(), key=lambda one: one[0].lower())
    environment = [*platform_facts(), *_code(data)]
    blocks.append(
        Columns(
            [
                Facts(environment, "Environment"),
                Facts([one for one in libraries if one[0] != "python"], "Libraries"),
            ]
        )
    )
    return Section("origin", "Lineage and environment", "", blocks)


def _given(data: ReportData) -> list[tuple[Mapping[str, Any], str]]:
    return [(data.training, "Parameters"), (data.metrics, "Figures from the training job")]


def _version(data: ReportData) -> list[tuple[str, str]]:
    items = [
        ("Model", data.version.model),
        ("Created", data.created_at),
        ("Pipeline", type(data.version.pipeline).__name__),
    ]
    if data.pipeline_sha256:
        items.append(("sha256 of pipeline", data.pipeline_sha256))
    items.append(("In production before", data.production.reference or "nothing"))
    found = commit_here()
    if found is None:
        return [*items, ("Git commit", "none: the job does not run from a git checkout")]
    changed = {True: ", with uncommitted changes", False: "", None: ", state unknown"}[
        found.changed
    ]
    return [*items, ("Git commit", f"{found.commit}{changed} (of {found.of})")]


def _data(data: ReportData) -> list[tuple[str, str]]:
    items = [
        ("Training rows", f"{len(data.X_train):,}"),
        ("Columns", f"{data.X_train.shape[1]:,}"),
        ("sha256 of X_train", data_sha256(data.X_train) or "not computed"),
    ]
    if data.y_train is not None:
        items.append(("sha256 of y_train", data_sha256(data.y_train) or "not computed"))
    if data.X_test is not None:
        items.append(("Held-out rows", f"{len(data.X_test):,}"))
        items.append(("sha256 of X_test", data_sha256(data.X_test) or "not computed"))
    return items


def _code(data: ReportData) -> list[tuple[str, str]]:
    items = []
    if data.sources is not None:
        items.append(("Modules that travel", ", ".join(data.sources) or "none"))
    if data.by_value:
        names = ", ".join(data.by_value)
        items.append(
            ("Bytecode that travels", f"{names}; runs on this minor version of Python only")
        )
    return items


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested values as one list of names and texts."""
    items: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            items.extend(flat(value, f"{prefix}{name}."))
        else:
            items.append((f"{prefix}{name}", _text(value)))
    return items


def _text(value: Any) -> str:
    if isinstance(value, float):
        return number(value)
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 400 else text[:399] + "…"
