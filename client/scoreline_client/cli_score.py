"""`scoreline score`: a CSV file in, a CSV file out, and a bar that tells how far it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from scoreline_client.csv_scoring import CsvProgress, ScoreSummary, summary_json
from scoreline_client.sync import Client

SOME_REJECTED = 1


class _Rows(ProgressColumn):
    """Rows so far, and rows a second."""

    def render(self, task: Task) -> Text:
        rows, seconds = task.fields["rows"], task.fields["seconds"]
        rate = rows / seconds if seconds else 0
        return Text(f"{rows:,} rows  {rate:,.0f} rows/s")


@click.command()
@click.argument("model")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.pass_context
def score(
    ctx: click.Context, model: str, source: Path, target: Path, as_json: bool, quiet: bool
) -> None:
    """Score the CSV file SOURCE with MODEL into TARGET.

    TARGET has SOURCE's columns byte for byte, then prediction, probability_<class> and error; one
    line for each row, in order, all of one version. A row that cannot be scored has its error in its
    own line.

    \b
    Exit codes: 0 all rows scored, 1 some rejected, 2 the file was refused, 3 service trouble.

    \b
    Examples:
      scoreline score pima in.csv out.csv
      scoreline score pima@3 in.csv out.csv --json
    """
    bar = Console(stderr=True)
    with Client() as client, _progress(bar, not quiet and bar.is_terminal) as show:
        summary = client.score_csv(model, source, target, progress=show)
    if as_json:
        click.echo(json.dumps(summary_json(summary)))
    elif not quiet:
        click.echo(_sentence(summary, target))
    if summary.rejected:
        ctx.exit(SOME_REJECTED)


@contextmanager
def _progress(console: Console, visible: bool) -> Iterator[Callable[[CsvProgress], None] | None]:
    if not visible:
        yield None
        return
    columns = (
        TextColumn("scoring"),
        BarColumn(),
        TaskProgressColumn(),
        _Rows(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[rejected]:,} rejected  version {task.fields[version]}"),
    )
    with Progress(*columns, console=console) as bars:
        task = bars.add_task("", rows=0, rejected=0, version="?", seconds=0.0)

        def show(now: CsvProgress) -> None:
            bars.update(
                task,
                completed=now.bytes_done,
                total=now.bytes_total,
                rows=now.rows,
                rejected=now.rejected,
                version=now.version,
                seconds=now.seconds,
            )

        yield show


def _sentence(summary: ScoreSummary, target: Path) -> str:
    rate = summary.rows / summary.seconds if summary.seconds else 0
    text = (
        f"{summary.rows:,} rows, {summary.scored:,} scored, {summary.rejected:,} rejected, by "
        f"{summary.model}@{summary.version} in {summary.seconds:.2f} s ({rate:,.0f} rows/s): {target}"
    )
    for code, count in sorted(summary.rejected_by_code.items()):
        text += f"\n  {code}: {count:,}"
    return text
