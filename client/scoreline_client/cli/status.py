"""`scoreline status`: what waits, who works, and which versions they serve."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict

import click
import orjson
from redis import Redis
from redis.exceptions import RedisError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from scoreline_client.errors import ServerUnreachable
from scoreline_client.fleet import FleetStatus, ProcessReport, read_status, served_models
from scoreline_client.protocol.keys import Keys
from scoreline_client.protocol.messages import WireError
from scoreline_client.settings import ClientSettings
from scoreline_client.transport.dispatcher import Transport

NOBODY = 3
_REPLY_S = 5.0


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def status(ctx: click.Context, as_json: bool) -> None:
    """Show what waits in the queue, the workers, and the versions that they serve.

    The exit code is 3 when no worker is alive, or when the server cannot be reached.

    \b
    Examples:
      scoreline status
      scoreline status --json
    """
    settings = ClientSettings.from_environment()
    url = Transport(settings).url
    found = _read(settings, url)
    if as_json:
        shown = {"redis": url, "queue": settings.queue, **asdict(found)}
        click.echo(orjson.dumps(shown, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS))
    else:
        _print(Console(), settings.queue, url, found)
    if not any(one.scores for one in found.processes):
        ctx.exit(NOBODY)


def _read(settings: ClientSettings, url: str) -> FleetStatus:
    try:
        with Redis.from_url(
            settings.redis_url, socket_timeout=_REPLY_S, socket_connect_timeout=_REPLY_S
        ) as redis:
            return read_status(redis, Keys(settings.queue))
    except (RedisError, ValueError, WireError) as error:
        raise ServerUnreachable(url, str(error)) from error


def _print(console: Console, queue: str, url: str, found: FleetStatus) -> None:
    lanes = Table("lane", "waiting", "being scored", title=escape(f"queue {queue} at {url}"))
    for lane, count in found.waiting.items():
        lanes.add_row(lane.value, f"{count:,}", f"{found.scoring[lane]:,}")
    console.print(lanes)
    if found.dead:
        console.print(f"{found.dead:,} requests were given up because they killed their worker")
    if not found.processes:
        console.print("no worker is alive; start one: celery -A scoreline_tasks worker")
        return
    console.print(_models(found.processes))
    console.print(_processes(found.processes))


def _models(reports: list[ProcessReport]) -> Table:
    """One line for each model and version, with how many processes serve it, and refusals."""
    table = Table("model", "serving", "processes", "wanted", "why not", title="models")
    states = Counter(
        (name, served.serving or 0, served.wanted or 0, served.refused or "")
        for _, models in served_models(reports)
        for name, served in models.items()
    )
    for (name, serving, wanted, refused), count in sorted(states.items()):
        loading = "" if wanted == serving else "loading"
        cells = (name, _version(serving), str(count), _version(wanted), refused or loading)
        table.add_row(*map(escape, cells))
    return table


def _processes(reports: list[ProcessReport]) -> Table:
    table = Table(
        "process", "up for", "requests", "records", "records a batch", "memory", title="workers"
    )
    now = time.time()
    for one in reports:
        table.add_row(
            escape(one.name) + ("" if one.scores else " (main)"),
            _duration(now - one.started_at),
            f"{one.requests:,}" if one.scores else "",
            f"{one.records:,}" if one.scores else "",
            _per_batch(one),
            f"{one.rss_bytes / 2**20:,.0f} MiB" if one.rss_bytes else "–",
        )
    return table


def _per_batch(report: ProcessReport) -> str:
    if not report.scores:
        return ""
    return f"{report.records / report.batches:.1f}" if report.batches else "–"


def _version(number: int) -> str:
    return str(number) if number else "–"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
