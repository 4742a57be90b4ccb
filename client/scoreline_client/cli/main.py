"""The `scoreline` program: finds the commands of every installed package; `scoreline predict` and `status`.

Commands register under the entry point group `scoreline.commands`, beside the code that they run. A
command is imported when it is called, so that `scoreline --help` and `scoreline status` are as quick
as the smallest install.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import NoReturn

import click
import msgspec
from redis import Redis
from redis.exceptions import RedisError
from rich.console import Console

from scoreline_client.cli.job import print_predictions
from scoreline_client.cli.kit import (
    PARTLY,
    SERVICE,
    Command,
    Group,
    Seconds,
    command,
    json_option,
    print_json,
    print_table,
    say,
)
from scoreline_client.cli.watch import watch
from scoreline_client.client import Client
from scoreline_client.errors import MissingDependency
from scoreline_client.fleet import (
    FleetStatus,
    ProcessReport,
    answered_models,
    is_read,
    read_status,
    served_models,
    stores_of,
    unloaded,
)
from scoreline_client.overview import Overview
from scoreline_client.protocol.keys import Keys
from scoreline_client.protocol.messages import WireError
from scoreline_client.protocol.names import near_name
from scoreline_client.settings import ClientSettings, misspelt_variables
from scoreline_client.transport.connection import server_error
from scoreline_client.transport.servers import blocking_redis, read_version

_REPLY_S = 5.0
_FIRST_REPORT_S = 3.0
"""Seconds within which a process that is alive has reported."""
_NONE = "–"


@dataclass(frozen=True, slots=True)
class _Listed:
    """The entry of a command in `scoreline --help`, which imports no command."""

    help: str
    extra: str = "all"
    """What to install if it cannot be imported."""


_LISTED = {
    "demo": _Listed("The whole story on an embedded server, in a minute."),
    "up": _Listed("Run an embedded server and a worker, for development."),
    "train": _Listed("Run a training job and publish what it fits.", "training"),
    "export": _Listed("Write a version as a file that other programs score with.", "training"),
    "predict": _Listed("Predict records given as JSON."),
    "score": _Listed("Score files into files: CSV, JSON Lines, Parquet."),
    "check": _Listed("Look at a file as a model would, without scoring it."),
    "describe": _Listed("Show what a model takes and gives."),
    "job": _Listed("Show a job, wait for it, cancel it."),
    "models": _Listed("List the models of the store.", "worker"),
    "versions": _Listed("List the versions of a model.", "worker"),
    "history": _Listed("Say who released what of a model, and when.", "worker"),
    "diff": _Listed("Show how two versions of a model differ.", "worker"),
    "promote": _Listed("Let a model answer with a version.", "worker"),
    "rollback": _Listed("Let a model answer with the version before.", "worker"),
    "status": _Listed("Show queues, workers and the versions that they serve."),
    "health": _Listed("Say by its exit code whether the queue is served."),
    "metrics": _Listed("Serve the metrics of a queue to Prometheus.", "metrics"),
    "dead-letters": _Listed("Show, replay and drop what killed its process."),
    "inspect": _Listed("Show what an artifact holds and needs.", "worker"),
    "copy": _Listed("Bring a version of another store into this one.", "worker"),
    "accept": _Listed("Take a store or a log for the right one, as it is now.", "worker"),
    "pin": _Listed("Keep a version, whatever prune removes.", "worker"),
    "unpin": _Listed("Let prune remove a version again.", "worker"),
    "prune": _Listed("Remove the versions that nothing needs.", "worker"),
    "acl": _Listed("Print users of the Redis server with least rights."),
    "gateway": _Listed("Answer HTTP in front of the queue.", "gateway"),
    "token": _Listed("Make a token for callers of the gateway.", "gateway"),
    "keygen": _Listed("Make the key pair that signs what is published here.", "worker"),
    "keys": _Listed("List, trust and revoke the keys that sign.", "worker"),
}
"""In the order in which they are listed."""


class _Commands(Group):
    """The commands of every installed package."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        installed = _installed()
        return [
            *(name for name in _LISTED if name in installed),
            *sorted(installed - _LISTED.keys()),
        ]

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        cmd_name: str,
    ) -> click.Command | None:
        entry = _installed().get(cmd_name)
        return None if entry is None else _load(entry)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in _installed() and not name.startswith("-"):
            near = near_name(name, self.list_commands(ctx))
            ctx.fail(f"no command {name!r}" + (f"; did you mean {near!r}?" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = []
        for name in self.list_commands(ctx):
            if name in _LISTED:
                rows.append((name, _LISTED[name].help))
            elif (other := self.get_command(ctx, name)) is not None:
                rows.append((name, other.get_short_help_str()))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _installed() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group="scoreline.commands")}


def _load(entry: EntryPoint) -> click.Command:
    """The command, or one that says, whatever it is given, what to install for it."""
    try:
        loaded: click.Command = entry.load()
    except ImportError as error:
        if not error.name or error.name.startswith("scoreline_"):
            raise  # our own mistake, not something to install
        package = error.name.partition(".")[0]
    else:
        return loaded

    def refuse() -> NoReturn:
        extra = _LISTED.get(entry.name, _Listed("")).extra
        raise MissingDependency(f"scoreline {entry.name}", package, extra)

    anything = {"ignore_unknown_options": True, "allow_extra_args": True}
    return Command(entry.name, callback=refuse, context_settings=anything, add_help_option=False)


@click.group(cls=_Commands)
@click.version_option(package_name="scoreline")
def main() -> None:
    """Score raw records with a fitted scikit-learn pipeline, from a queue.

    Where the server and the artifacts are, SCORELINE_REDIS_URL and SCORELINE_ARTIFACTS say; whose
    artifacts are believed, the keys in the folder SCORELINE_KEYS.

    \b
    Examples:
      scoreline demo
      scoreline predict pima '{"preg": 6, "plas": 148, "pres": 72, ...}'
      scoreline score pima in.csv out.csv
      scoreline COMMAND --help

    \b
    Exit codes:
      0    all went well
      1    some records were rejected (or, for promote, some workers did not follow)
      2    a usage error, or the request or file as a whole was refused
      3    trouble with the service: server unreachable, no answer in time, queue full
      130  interrupted
    """
    for sentence in misspelt_variables():
        say(f"Warning: {sentence}", err=True, in_line=True)


@command()
@click.argument("model")
@click.argument("text", metavar="JSON")
@click.option(
    "--timeout",
    "timeout_s",
    type=Seconds(min=0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the answer.",
)
@json_option("Print JSON: an object for an object.")
@click.pass_context
def predict(ctx: click.Context, model: str, text: str, timeout_s: float, as_json: bool) -> None:
    """Predict the record, or the array of records, that JSON holds; `-` reads it from stdin.

    MODEL is a name (what production names), name@alias or name@version. The exit code is 1 if a
    record was rejected; the others are predicted all the same.

    \b
    Examples:
      scoreline predict pima '{"preg": 6, "plas": 148, "pres": 72, "skin": 35,
                               "test": 0, "mass": 33.6, "pedi": 0.627, "age": 50}'
      scoreline predict pima@2 - --json < records.json
    """
    try:
        # Not orjson, which reads a number of thirty digits as another number.
        given = json.loads(sys.stdin.buffer.read() if text == "-" else text)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"JSON cannot be read: {error}") from error
    if not isinstance(given, dict | list):
        kind = type(given).__name__
        raise click.UsageError(f"JSON must be an object or an array of objects, not {kind}")
    with Client() as client:
        records = [given] if isinstance(given, dict) else given
        predictions = client.predict_many(model, records, timeout=timeout_s)
    if as_json:
        printed = msgspec.to_builtins(predictions)
        print_json(printed[0] if isinstance(given, dict) else printed, indent=2)
    else:
        print_predictions(predictions)
    if any(prediction.error for prediction in predictions):
        ctx.exit(PARTLY)


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
    if as_json:
        about = {"redis": url, "server": server, "queue": settings.queue}
        print_json({**about, **asdict(fleet)}, indent=2)
    else:
        _print_fleet(settings.queue, f"{url} ({server})" if server else url, fleet)
    if not any(process.scores for process in fleet.processes):
        ctx.exit(SERVICE)


def _reported(redis: Redis, keys: Keys) -> FleetStatus:
    """The status, with the first reports of a worker that has just begun or whose server was emptied."""
    until = time.monotonic() + _FIRST_REPORT_S
    while True:
        fleet = read_status(redis, keys)
        if any(process.scores for process in fleet.processes) or time.monotonic() > until:
            return fleet
        # A main process that waits for its children; or nobody has reported, and somebody reads.
        if not fleet.processes and not is_read(redis, keys, within_s=_FIRST_REPORT_S):
            return fleet
        time.sleep(0.1)


def _print_fleet(queue: str, url: str, fleet: FleetStatus) -> None:
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
                    refused or ("" if wanted == serving else "loading"),
                )
                for (name, serving, wanted, refused), count in sorted(states.items())
            ),
        )
    elif any(process.scores for process in fleet.processes):
        click.echo("no model is served: none is released, or the first version is being loaded")
    else:
        click.echo("the workers' processes are being started; none serves yet")
    for store in stores_of(fleet.processes):
        say(f"workers read the artifact store {store}", in_line=True)
    for only in filter(None, answered_models(fleet.processes)):
        say(f"workers answer for {only} alone (SCORELINE_MODELS)", in_line=True)
    if more := unloaded(fleet.processes):
        click.echo(f"{more:,} more aliases are to be loaded; what is asked for comes first")
    for name, reason in deferred.items():
        told = f"{name}: each process loads it for itself, and shares no memory: {reason}"
        say(told, in_line=True)
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
