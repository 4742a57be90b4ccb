"""Shows how far a file is: a bar on a terminal, or JSON lines for programs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

from scoreline_client.cli.kit import print_json
from scoreline_client.files.run import BulkProgress, ScoreSummary

JSON_EVERY_S = 0.5

Show = Callable[[BulkProgress], None]


class _RunColumn(ProgressColumn):
    """The run's own figures, not those that a bar would compute from its clock."""

    def render(self, task: Task) -> Text:
        now: BulkProgress | None = task.fields["now"]
        if now is None:
            return Text("starting")
        percent = "" if now.percent is None else f"{now.percent:.1f} %  "
        if now.waiting is not None:
            return Text(percent + now.waiting, no_wrap=True, overflow="ellipsis")
        left = "" if now.seconds_left is None else f"{clock(now.seconds_left)} left  "
        return Text(
            f"{percent}{left}{now.rows:,} rows  {now.rows_per_s:,.0f} rows/s  "
            f"{now.rejected:,} rejected  v{now.version}",
            no_wrap=True,
            overflow="ellipsis",
        )


@contextmanager
def shown_progress(console: Console, *, as_json: bool, quiet: bool) -> Iterator[Show | None]:
    """A function to call with each progress: for a bar on a terminal or JSON lines; or None."""
    if as_json and not quiet:
        last = 0.0

        def show(now: BulkProgress) -> None:
            nonlocal last
            if time.monotonic() - last >= JSON_EVERY_S or now.percent == 100.0:
                last = time.monotonic()
                print_json(now.as_json(), err=True)

        yield show
    elif quiet or not console.is_terminal:
        yield None
    else:
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=8), _RunColumn())
        with Progress(*columns, console=console) as bars:
            yield _Bars(bars)


class _Bars:
    """A bar for each file."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, now: BulkProgress) -> None:
        if now.source not in self._tasks:
            name = now.source.rpartition("/")[2][-16:]
            self._tasks[now.source] = self._bars.add_task(name, total=None, now=None)
        task = self._tasks[now.source]
        self._bars.update(task, completed=now.done, total=now.total, now=now)


def sentence(summary: ScoreSummary) -> str:
    """A summary for people."""
    text = (
        f"{summary.rows:,} rows, {summary.scored:,} scored, {summary.rejected:,} rejected, by "
        f"{summary.model}@{summary.version} in {summary.seconds:.2f} s "
        f"({summary.rows_per_s:,.0f} rows/s): {summary.target}"
    )
    for code, count in summary.rejected_by_code.items():
        text += f"\n  {code}: {count:,}"
    for name, count in summary.warnings.items():
        text += f"\n  {name}: {count:,}"
    for note in summary.notes:
        text += f"\n  {note}"
    if summary.errors is not None:
        text += f"\n  rejected rows are listed in {summary.errors}"
    return text


def clock(seconds: float) -> str:
    """A time span for people."""
    return str(timedelta(seconds=round(seconds)))
