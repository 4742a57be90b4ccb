"""`scoreline status`: what waits, the workers, and the versions that they serve."""

from __future__ import annotations

import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict

import click
from redis import Redis
from redis.exceptions import RedisError
from rich.console import Console

from scoreline_client.cli.kit import SERVICE, command, json_option, print_json, print_table, say
from scoreline_client.cli.reasons import Reasons
from scoreline_client.cli.watch import watch
from scoreline_client.fleet import (
    FleetStatus,
    ProcessReport,
    answered_models,
    idle_patterns,
    is_read,
    read_status,
    served_models,
    stores_of,
    unloaded,
)
from scoreline_client.overview import Overview
from scoreline_client.protocol.keys import Keys
from scoreline_client.protocol.messages import WireError
from scoreline_client.settings import ClientSettings
from scoreline_client.transport.connection import server_error
from scoreline_client.transport.servers import blocking_redis, read_version

_REPLY_S = 5.0
_FIRST_REPORT_S = 3.0
"""Seconds within which a process that is alive has reported."""
_NONE = "–"


@command()
@json_option()
@click.option(
    "--watch", "is_watched", is_flag=True, help="Show it until Ctrl-C, with rates and history."
)
@click.pass_context
def status(ctx: click.Context, as_json: bool, is_watched: bool) -> None:
    """Show what waits in the queue, the workers, and the versions that they serve.

    The exit code is 3 when no worker is alive, or when the server cannot be reached.

    \b
    Examples:
      scoreline status
      scoreline status --watch
      scoreline status --json
    """
    if is_watched and (as_json or not sys.stdout.isatty()):
        raise click.UsageError("--watch needs a terminal, and goes without --json")
    settings = ClientSettings.from_environment()
    settings.check_redis_url()
    url, keys = settings.server, Keys(settings.queue)
    try:
        with blocking_redis(
            settings.redis_url, socket_timeout=_REPLY_S, socket_connect_timeout=_REPLY_S
        ) as redis:
            server = read_version(redis)
            if is_watched:
                with suppress(KeyboardInterrupt):
                    watch(Overview(redis, keys), Console())
                return
            fleet = _reported(redis, keys)
    except (RedisError, ValueError, WireError) as error:
        raise server_error(error, settings) from error
    is_scoring = any(process.scores for process in fleet.processes)
    if as_json:
        about = {"redis": url, "server": server, "queue": settings.queue}
        print_json({**about, **asdict(fleet)}, indent=2)
    else:
        address = f"{url} ({server})" if server else url
        _print_fleet(settings.queue, address, fleet, is_scoring=is_scoring)
    if not is_scoring:
        ctx.exit(SERVICE)


def _reported(redis: Redis, keys: Keys) -> FleetStatus:
    """The status, with the first reports of a worker that has just begun or whose server was emptied."""
    until = time.monotonic() + _FIRST_REPORT_S
    while True:
        fleet = read_status(redis, keys)
        if any(process.scores for process in fleet.processes) or time.monotonic() > until:
            return fleet
        # Wait if there is a main process without children yet, or a reader of the queue that has not reported.
        if not fleet.processes and not is_read(redis, keys, within_s=_FIRST_REPORT_S):
            return fleet
        time.sleep(0.1)


def _print_fleet(queue: str, url: str, fleet: FleetStatus, *, is_scoring: bool) -> None:
    print_table(
        f"queue {queue} at {url}",
        ("lane", "waiting", "being scored"),
        ((lane.value, f"{n:,}", f"{fleet.scoring[lane]:,}") for lane, n in fleet.waiting.items()),
    )
    if fleet.dead:
        click.echo(
            f"{fleet.dead:,} requests or records were given up: `scoreline dead-letters` lists them"
        )
    if fleet.unreadable:
        click.echo(
            f"{fleet.unreadable:,} reports of processes cannot be read: of another release, or made up"
        )
    if not fleet.processes:
        click.echo("no worker is alive; start one: celery -A scoreline_tasks worker")
        return
    # A line for each model and version, with how many processes serve it, and refusals.
    of_processes = [pair for _, models in served_models(fleet.processes) for pair in models.items()]
    states = Counter(
        (name, served.serving or 0, served.wanted or 0, served.refused or "")
        for name, served in of_processes
    )
    deferred = {name: served.deferred for name, served in of_processes if served.deferred}
    reasons = Reasons()
    if states:
        print_table(
            "models",
            ("model", "serving", "processes", "wanted", "why not"),
            (
                (
                    name,
                    str(serving or _NONE),
                    str(count),
                    str(wanted or _NONE),
                    reasons.short(refused) or ("" if wanted == serving else "loading"),
                )
                for (name, serving, wanted, refused), count in sorted(states.items())
            ),
        )
        for line in reasons.lines():
            say(line, in_line=True)
    elif is_scoring:
        click.echo("no model is served: none is released, or the first version is being loaded")
    else:
        click.echo("the workers' processes are being started; none serves yet")
    for store in stores_of(fleet.processes):
        say(f"workers read the artifact store {store}", in_line=True)
    for setting in filter(None, answered_models(fleet.processes)):
        say(f"workers answer for {setting} alone (SCORELINE_MODELS)", in_line=True)
    if is_scoring and (idle := idle_patterns(fleet.processes)):
        say(f"caution: no released model fits {', '.join(idle)} (SCORELINE_MODELS)", in_line=True)
    if more := unloaded(fleet.processes):
        click.echo(f"{more:,} more aliases are to be loaded; what is asked for comes first")
    for name, reason in deferred.items():
        message = f"{name}: each process loads it for itself, and shares no memory: {reason}"
        say(message, in_line=True)
    print_table(
        "workers",
        ("process", "up for", "requests", "records", "records a batch", "memory"),
        map(_cells, fleet.processes),
    )


def _cells(process: ProcessReport) -> tuple[str, ...]:
    minutes, seconds = divmod(max(0, int(time.time() - process.started_at)), 60)
    hours, minutes = divmod(minutes, 60)
    up_for = f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
    memory = f"{process.rss_bytes / 2**20:,.0f} MiB" if process.rss_bytes else _NONE
    if not process.scores:
        return f"{process.name} (main)", up_for, "", "", "", memory
    per_batch = f"{process.records / process.batches:.1f}" if process.batches else _NONE
    scored = (f"{process.requests:,}", f"{process.records:,}", per_batch)
    return process.name, up_for, *scored, memory
