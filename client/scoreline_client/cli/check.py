"""`scoreline check`: why a file will be rejected, at a glance and without scoring it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from scoreline_client.async_client import AsyncClient
from scoreline_client.cli.kit import PARTLY, command, json_option, print_json
from scoreline_client.cli.score import READING, options_of, with_options
from scoreline_client.files.profile import ColumnReport, FileReport, ShowCheck, Values
from scoreline_client.options import BulkOptions

_SHOWN = 3


@command()
@click.argument("model")
@click.argument("source")
@with_options(READING)
@json_option("Print the report as one JSON object.")
@click.pass_context
def check(ctx: click.Context, /, model: str, source: str, as_json: bool, **given: Any) -> None:
    """Look at the file SOURCE as MODEL would, without scoring it.

    Column by column: what is expected and what was found, missing values, text that training did not
    have, numbers outside the range of training; then the first ten rows that would be rejected, and
    why. The rules are those of `scoreline score`, and it takes the same options for reading.

    \b
    Exit codes: 0 all rows would be scored, 1 some would be rejected, 2 the file was refused,
    3 service trouble.

    \b
    Examples:
      scoreline check pima in.csv
      scoreline check pima@3 in.csv.gz --delimiter ';' --decimal , --json
    """
    console = Console(stderr=True)
    with _progress(console, visible=not as_json and console.is_terminal) as show:
        report = asyncio.run(_check(model, source, options_of(given), show))
    if as_json:
        print_json(report.as_json())
    else:
        show_report(report, Console(highlight=False))
    if report.rejected_rows:
        ctx.exit(PARTLY)


async def _check(
    model: str, source: str, options: BulkOptions, show: ShowCheck | None
) -> FileReport:
    async with AsyncClient() as client:
        return await client.check_file(model, source, options=options, progress=show)


@contextmanager
def _progress(console: Console, *, visible: bool) -> Iterator[ShowCheck | None]:
    if not visible:
        yield None
        return
    columns = (TextColumn("checking"), BarColumn(), TextColumn("{task.fields[rows]:,} rows"))
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("", total=None, rows=0)
        yield lambda rows, done, total: bars.update(task, completed=done, total=total, rows=rows)


def show_report(report: FileReport, console: Console) -> None:
    """Print a report for people."""
    table = Table("column", "expected", "found", "missing", "rejected", "not as in training")
    for column in report.columns:
        table.add_row(*map(Text, _cells(column)), style="" if column.rejected == 0 else "red")
    console.print(table)
    for note in report.notes:
        console.print(Text(note))
    if report.bad_rows:
        console.print(_bad_rows(report))
    console.print(Text(_verdict(report)))


def _cells(column: ColumnReport) -> tuple[str, ...]:
    return (
        column.name,
        column.type + (", may be missing" if column.nullable else ""),
        _found(column),
        f"{column.nulls:,}" if column.nulls else "",
        f"{column.rejected:,}" if column.rejected else "",
        _unusual(column),
    )


def _found(column: ColumnReport) -> str:
    found = Counter(column.found)
    if column.type == "number":
        # A whole number is one.
        found["number"] += found.pop("integer", 0)
    found = +found
    kinds = [
        kind if count == found.total() else f"{kind} {count:,}"
        for kind, count in found.most_common()
    ]
    text = ", ".join(kinds) or "nothing"
    if column.minimum is not None and column.maximum is not None:
        text += f" ({column.minimum:g} to {column.maximum:g})"
    return text


def _unusual(column: ColumnReport) -> str:
    parts = []
    if column.out_of_range.count:
        low, high = column.training
        told = _values(column.out_of_range)
        parts.append(f"{column.out_of_range.count:,} outside {low:g} to {high:g}: {told}")
    if column.unseen.count:
        parts.append(f"{column.unseen.count:,} unseen: {_values(column.unseen)}")
    return "; ".join(parts)


def _values(values: Values) -> str:
    told = []
    for value, count in values.counts.most_common(_SHOWN):
        near = f" (near {values.nearest[value]!r})" if value in values.nearest else ""
        told.append(f"{value}{near} ×{count:,}" if count > 1 else f"{value}{near}")
    return ", ".join(told) + (", …" if len(values.counts) > _SHOWN else "")


def _bad_rows(report: FileReport) -> Table:
    title = f"the first {len(report.bad_rows)} of {report.rejected_rows:,} rows to be rejected"
    table = Table("row", "line", "column", "value", "why", title=title, title_justify="left")
    for one in report.bad_rows:
        cells = (one["row"], one.get("line", ""), one.get("column", ""), one.get("value", ""))
        table.add_row(
            *(Text(str(cell)) for cell in cells), Text(f"{one['code']}: {one['message']}")
        )
    return table


def _verdict(report: FileReport) -> str:
    rejected = report.rejected_rows
    by = f"{report.model}@{report.version}"
    if not rejected:
        return f"{report.source}: {report.rows:,} rows, all of which {by} would score"
    codes = ", ".join(f"{code} {count:,}" for code, count in sorted(report.rejected.items()))
    return (
        f"{report.source}: {report.rows:,} rows, of which {by} would reject {rejected:,} ({codes})"
    )
