"""`scoreline check`: which rows of a file would be rejected and why, without scoring it."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from scoreline_client.async_client import AsyncClient
from scoreline_client.cli.kit import (
    PARTLY,
    REFUSED,
    cell,
    command,
    counted,
    file_name,
    json_option,
    print_json,
    say,
)
from scoreline_client.cli.score import READING, options_of, with_options
from scoreline_client.errors import FileRefused
from scoreline_client.files.profile import ColumnReport, FileReport, Values
from scoreline_client.files.sink import inputs_of

_SHOWN = 3


@command()
@click.argument("model")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True, type=file_name)
@with_options(READING)
@json_option("Print the report as one JSON object.")
@click.pass_context
def check(
    ctx: click.Context, /, model: str, sources: tuple[str, ...], as_json: bool, **flags: Any
) -> None:
    """Look at the file SOURCE as MODEL would, without scoring it.

    Column by column: what is expected and what was found, missing values, text that training did not
    have, numbers outside the range of training; then the first ten rows that would be rejected, and
    why. The rules are those of `scoreline score`, and it takes the same options for reading. Of several
    SOURCEs, a pattern in quotes, or a directory's tables, each is looked at, and a total is printed.

    \b
    Exit codes: 0 all rows would be scored, 1 some would be rejected, 2 a file was refused,
    3 service trouble.

    \b
    Examples:
      scoreline check pima in.csv
      scoreline check pima@3 in.csv.gz --delimiter ';' --decimal , --json
      scoreline check pima 'visits/2024-*.csv' --rename Amount=amount
    """
    console = Console(stderr=True)
    options = options_of(flags)

    columns = (TextColumn("checking"), BarColumn(), TextColumn("{task.fields[rows]:,} rows"))
    is_quiet = as_json or not console.is_terminal

    async def check_file(source: str) -> FileReport:
        with Progress(*columns, console=console, transient=True, disable=is_quiet) as bars:
            bar = bars.add_task("", total=None, rows=0)

            def show(rows: int, done: int, total: int | None) -> None:
                bars.update(bar, completed=done, total=total, rows=rows)

            async with AsyncClient() as client:
                return await client.check_file(model, source, options=options, progress=show)

    inputs = inputs_of(sources)
    reports, refused = list[FileReport](), 0
    for source in inputs:
        try:
            report = asyncio.run(check_file(source))
        except FileRefused as error:
            if len(inputs) == 1:
                raise
            # The other files are checked all the same, as in `scoreline score`.
            say(f"Error: {error}", err=True)
            refused += 1
            continue
        reports.append(report)
        if as_json:
            print_json(report.as_json())
        else:
            show_report(report, Console(highlight=False))
    rejected = sum(report.rejected_rows for report in reports)
    if len(inputs) > 1:
        rows = sum(report.rows for report in reports)
        total = {"files": len(inputs), "files_refused": refused, "rows": rows, "rejected": rejected}
        if as_json:
            print_json({"event": "total", **total})
        else:
            say(
                f"{counted(len(inputs), 'file')} ({refused:,} refused): {counted(rows, 'row')}, of which {rejected:,} would be rejected"
            )
    if refused or rejected:
        ctx.exit(REFUSED if refused else PARTLY)


def show_report(report: FileReport, console: Console) -> None:
    """Print a report for people."""
    table = Table("column", "expected", "found", "missing", "rejected", "not as in training")
    for column in report.columns:
        table.add_row(*map(cell, _cells(column)), style="red" if column.rejected else "")
    console.print(table)
    for note in report.notes:
        console.print(cell(note))
    rejected = report.rejected_rows
    if report.bad_rows:
        title = f"the first {len(report.bad_rows)} of {counted(rejected, 'row')} to be rejected"
        table = Table("row", "line", "column", "value", "why", title=title, title_justify="left")
        for row in report.bad_rows:
            details = [str(row.get(name, "")) for name in ("row", "line", "column", "value")]
            table.add_row(*map(cell, details), cell(f"{row['code']}: {row['message']}"))
        console.print(table)
    rows = f"{report.source}: {counted(report.rows, 'row')}"
    model = f"{report.model}@{report.version}"
    verdict = f"{rows}, all of which {model} would score"
    if rejected:
        codes = ", ".join(f"{code} {count:,}" for code, count in sorted(report.rejected.items()))
        verdict = f"{rows}, of which {model} would reject {rejected:,} ({codes})"
    console.print(cell(verdict))


def _cells(column: ColumnReport) -> tuple[str, ...]:
    types = Counter(column.found)
    if column.type == "number":
        # Whole numbers are numbers.
        types["number"] += types.pop("integer", 0)
    types = +types
    counts = types.most_common()
    kinds = [kind if n == types.total() else f"{kind} {n:,}" for kind, n in counts] or ["nothing"]
    limits = ""
    if column.minimum is not None and column.maximum is not None:
        limits = f" ({column.minimum:g} to {column.maximum:g})"
    unlike = []
    if column.out_of_range.count:
        low, high = column.training
        values = _values(column.out_of_range)
        unlike.append(f"{_how_many(column.out_of_range, f'outside {low:g} to {high:g}')}: {values}")
    if column.unseen.count:
        unlike.append(f"{_how_many(column.unseen, 'unseen')}: {_values(column.unseen)}")
    return (
        column.name,
        column.type + (", may be missing" if column.nullable else ""),
        ", ".join(kinds) + limits,
        f"{column.nulls:,}" if column.nulls else "",
        f"{column.rejected:,}" if column.rejected else "",
        "; ".join(unlike),
    )


def _how_many(values: Values, description: str) -> str:
    in_rejected = f" ({values.rejected:,} in rows to be rejected)" if values.rejected else ""
    return f"{values.count:,} {description}{in_rejected}"


def _values(values: Values) -> str:
    examples = []
    for value, count in values.counts.most_common(_SHOWN):
        near = f" (near {values.nearest[value]!r})" if value in values.nearest else ""
        examples.append(f"{value}{near} ×{count:,}" if count > 1 else f"{value}{near}")
    return ", ".join(examples) + (", …" if len(values.counts) > _SHOWN else "")
