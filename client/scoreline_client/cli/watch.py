"""`scoreline status --watch`: the queue at a glance in a terminal, anew every two seconds."""

from __future__ import annotations

import time
from collections.abc import Sequence

from redis.exceptions import RedisError
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from scoreline_client.cli.kit import cell, table
from scoreline_client.cli.reasons import Reasons
from scoreline_client.errors import ScorelineError
from scoreline_client.overview import Glance, Overview, Times
from scoreline_client.protocol.messages import WireError

EVERY_S = 2.0
NONE = "–"
_BARS = "▁▂▃▄▅▆▇█"
MINUTES_S = 180
"""Seconds that a bar of the last hour stands for."""


def watch(overview: Overview, console: Console) -> None:
    """Show a queue until Ctrl-C. A server that goes away is waited for, beside the last glance.

    Raises:
        RedisError, WireError: the server cannot be read at the start.
    """
    glance = overview.look()
    with Live(shown(glance), console=console, screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(EVERY_S)
            trouble = ""
            try:
                glance = overview.look()
            except (RedisError, WireError, ScorelineError) as error:
                trouble = f"not read for {time.time() - glance.at:.0f} s: {error}"
            live.update(shown(glance, trouble), refresh=True)


def shown(glance: Glance, trouble: str = "") -> RenderableType:
    """A glance as tables, what is asked for most at the top; sections that have nothing to say are left out."""
    sections = (lanes, versions, releases, jobs, errors, workers)
    tables = (section(glance) for section in sections)
    return Group(title(glance, trouble), *(drawn for drawn in tables if drawn is not None))


def title(glance: Glance, trouble: str) -> Text:
    """The queue, when it was read, and what is wrong with reading it."""
    busy = NONE if glance.busy_share is None else f"{glance.busy_share:.0%}"
    line = f"queue {glance.queue}   {time.strftime('%H:%M:%S', time.localtime(glance.at))}   busy {busy}"
    if glance.dead:
        line += f"   {glance.dead:,} dead letters: scoreline dead-letters"
    text = cell(line + (f"   {trouble}" if trouble else ""))
    if trouble:
        text.stylize("bold red")
    return text


def lanes(glance: Glance) -> Table:
    """What waits, with the age of the oldest request over an hour."""
    columns = [
        "lane",
        *right("oldest", "waiting", "scoring"),
        "oldest, last hour",
        *right("at most"),
    ]
    newest = int(glance.at // MINUTES_S)
    lines = []
    for lane, state in glance.lanes.items():
        # 0 for times of which there is no history.
        ages = dict.fromkeys(range(newest - 3600 // MINUTES_S + 1, newest + 1), 0.0)
        for point in glance.history.get(60, ()):
            step = point.at // MINUTES_S
            if step in ages:
                ages[step] = max(ages[step], point.lanes[lane].oldest_waiting_s)
        oldest, most = seconds(state.oldest_waiting_s), seconds(max(ages.values()))
        bars = spark([*ages.values()])
        lines.append((lane.value, oldest, f"{state.waiting:,}", f"{state.scoring:,}", bars, most))
    return table(None, columns, lines)


def versions(glance: Glance) -> Table | None:
    """Rates and times."""

    def times(percentiles: Times | None) -> tuple[str, str]:
        return (
            (NONE, NONE)
            if percentiles is None
            else (f"≤ {seconds(percentiles.p50_s)}", f"≤ {seconds(percentiles.p99_s)}")
        )

    names = ("records/s", "requests/s", "rejected", "waiting p50", "p99", "scoring p50", "p99")
    lines = [
        (
            f"{version.model}@{version.version}",
            f"{version.records_per_s:,.1f}",
            f"{version.requests_per_s:,.1f}",
            f"{version.rejected_share:.1%}",
            *times(version.waited),
            *times(version.scored),
        )
        for version in sorted(glance.versions, key=lambda version: -version.records_per_s)
        if version.model
    ]
    heading = f"versions, last {glance.window_s:.0f} s"
    return table(heading, ["version", *right(*names)], lines) if lines else None


def releases(glance: Glance) -> Table | None:
    """The version that answers for each alias, and why the released one does not."""
    lines = []
    reasons = Reasons()  # `scoreline status` shows them in full
    for release in glance.releases:
        state = "in force" if release.wanted == release.serving else "loading"
        state = f"refused: {reasons.short(release.refused)}" if release.refused else state
        numbers = (
            str(release.serving or NONE),
            str(release.processes),
            str(release.wanted or NONE),
        )
        lines.append((release.name, *numbers, state))
    columns = ["alias", *right("answers", "processes", "released"), "state"]
    return table("releases", columns, lines) if lines else None


def jobs(glance: Glance) -> Table | None:
    """How far bulk jobs are."""
    lines = [
        (
            job.source,
            job.owner or NONE,
            f"{job.model}@{job.version}",
            f"{job.rows:,}",
            f"{job.rows_per_s:,.0f}",
            NONE if job.percent is None else f"{job.percent:.0f} %",
            seconds(job.seconds_left),
        )
        for watched in glance.jobs
        if (job := watched.progress) is not None
    ]
    columns = ["file", "owner", *right("version", "rows", "rows/s", "done", "left")]
    return table(f"bulk jobs: {glance.job_count}", columns, lines) if glance.jobs else None


def errors(glance: Glance) -> Table | None:
    """The most frequent codes of late."""
    lines = [
        (
            error.code,
            error.column or NONE,
            f"{error.model}@{error.version}" if error.model else NONE,
            *(f"{number:,}" for number in (error.recent, error.records, error.requests)),
        )
        for error in glance.errors[:8]
    ]
    columns = ["code", "column", "version", *right("just now", "records", "requests")]
    return table("errors", columns, lines) if lines else None


def workers(glance: Glance) -> RenderableType:
    """The processes, and what they have in memory."""
    if not glance.workers:
        return Text("no worker is alive; start one: celery -A scoreline_tasks worker")
    lines = (
        (
            worker.name + (" (main)" if worker.is_main else ""),
            seconds(int(worker.up_s)),
            "" if worker.is_main else f"{worker.records:,}",
            f"{worker.resident_bytes / 2**20:,.0f} MiB" if worker.resident_bytes else NONE,
            ", ".join(worker.versions) or NONE,
        )
        for worker in glance.workers
    )
    columns = ["process", *right("up for", "records", "memory"), "versions in memory"]
    return table("workers", columns, lines)


def seconds(value: float | None) -> str:
    """A time span in a short form."""
    if value is None:
        return NONE
    if 0 < value < 1:
        return f"{1000 * value:.3g} ms"
    for unit, size_s in (("days", 86_400), ("h", 3600), ("min", 60)):
        if value >= 2 * size_s:
            return f"{value / size_s:.0f} {unit}"
    return f"{value:.3g} s"


def spark(points: Sequence[float]) -> str:
    """Numbers as bars, the largest of them as a full one."""
    most = max(points, default=0)
    if not most:
        return _BARS[0] * len(points)
    return "".join(_BARS[min(7, int(8 * point / most))] for point in points)


def right(*names: str) -> list[Column | str]:
    """Columns of numbers."""
    return [Column(name, justify="right") for name in names]
