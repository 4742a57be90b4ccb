"""`scoreline status`: what waits, who works, and which versions they serve."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict

import click
from redis import Redis
from redis.exceptions import RedisError

from scoreline_client.cli.kit import SERVICE, command, json_option, print_json, print_table
from scoreline_client.errors import ServerUnreachable
from scoreline_client.fleet import FleetStatus, ProcessReport, read_status, served_models
from scoreline_client.protocol.keys import Keys
from scoreline_client.protocol.messages import WireError
from scoreline_client.settings import ClientSettings

_REPLY_S = 5.0
_NONE = "–"


@command()
@json_option()
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
    settings.check_redis_url()
    url = settings.server
    try:
        with Redis.from_url(
            settings.redis_url, socket_timeout=_REPLY_S, socket_connect_timeout=_REPLY_S
        ) as redis:
            fleet = read_status(redis, Keys(settings.queue))
    except (RedisError, ValueError, WireError) as error:
        raise ServerUnreachable(url, str(error)) from error
    if as_json:
        print_json({"redis": url, "queue": settings.queue, **asdict(fleet)}, indent=2)
    else:
        _print(settings.queue, url, fleet)
    if not any(process.scores for process in fleet.processes):
        ctx.exit(SERVICE)


def _print(queue: str, url: str, fleet: FleetStatus) -> None:
    print_table(
        f"queue {queue} at {url}",
        ("lane", "waiting", "being scored"),
        ((lane.value, f"{n:,}", f"{fleet.scoring[lane]:,}") for lane, n in fleet.waiting.items()),
    )
    if fleet.dead:
        click.echo(f"{fleet.dead:,} requests were given up because they killed their worker")
    if not fleet.processes:
        click.echo("no worker is alive; start one: celery -A scoreline_tasks worker")
        return
    # One line for each model and version, with how many processes serve it, and refusals.
    states = Counter(
        (name, served.serving or 0, served.wanted or 0, served.refused or "")
        for _, models in served_models(fleet.processes)
        for name, served in models.items()
    )
    print_table(
        "models",
        ("model", "serving", "processes", "wanted", "why not"),
        (
            (
                name,
                str(serving or _NONE),
                str(count),
                str(wanted or _NONE),
                refused or ("" if wanted == serving else "loading"),
            )
            for (name, serving, wanted, refused), count in sorted(states.items())
        ),
    )
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
