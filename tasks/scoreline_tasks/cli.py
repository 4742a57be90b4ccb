"""The commands that act on workers: up, promote, rollback and demo.

promote and rollback need no Celery: a training machine has them with the `training` extra alone.
Their exit codes: 0 every worker process serves the version, or there is none to serve it; 1 it is
released, but some process refuses it or has not moved in time, all leave the model out, or what they do is not known; 2
nothing was released; 3 it is released, but Redis cannot be reached: workers find out by themselves
within seconds; 130 it is released, and the waiting for the workers was interrupted.

Those of up and demo: 0 it was stopped, or the demo ran to its end; 1 the worker ended, or a step failed; 2
nothing was begun, such as for a bad setting or a port that is taken.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import click
from rich.console import Console

from scoreline_artifacts.errors import CorruptArtifact, UntrustedArtifact
from scoreline_artifacts.store import releases
from scoreline_artifacts.store.identity import address_of
from scoreline_artifacts.store.marks import LogMarks
from scoreline_artifacts.store.releases import Release
from scoreline_artifacts.store.store import Store
from scoreline_client.cli.kit import INTERRUPTED, REFUSED, VERSION, Seconds, command, json_option
from scoreline_client.errors import ScorelineError
from scoreline_client.settings import ClientSettings
from scoreline_client.shown import shown_name
from scoreline_tasks.dev import demo as story
from scoreline_tasks.dev.local_worker import serve_here
from scoreline_tasks.dev.processes import interruptible
from scoreline_tasks.dev.server import DATA
from scoreline_tasks.rollout import connect, roll_out

_alias = click.option(
    "--alias", default="production", show_default=True, help="Which alias of the model."
)
_timeout = click.option(
    "--timeout",
    "timeout_s",
    type=Seconds(min=0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the workers.",
)
_no_wait = click.option("--no-wait", is_flag=True, help="Do not wait for the workers.")


@command()
@click.argument("model")
@click.argument("version", type=VERSION)
@_alias
@_timeout
@_no_wait
@click.option(
    "--new-log",
    is_flag=True,
    help="Begin the releases anew where those that are there are signed by keys that are not trusted here; who knows "
    "those refuses the new ones until `scoreline accept`.",
)
@json_option()
def promote(
    model: str,
    version: int,
    alias: str,
    timeout_s: float,
    no_wait: bool,
    new_log: bool,
    as_json: bool,
) -> None:
    """Let MODEL answer with VERSION, and wait until every worker process does.

    \b
    Examples:
      scoreline promote pima 2
      scoreline promote pima 3 --alias candidate
      scoreline promote pima 2 --json --timeout 60
    """
    timeout = None if no_wait else timeout_s
    _release(
        model,
        alias,
        lambda store, seen: releases.promote(
            store, model, version, alias, seen=seen, new_log=new_log
        ),
        timeout,
        as_json,
    )


@command()
@click.argument("model")
@_alias
@_timeout
@_no_wait
@json_option()
def rollback(model: str, alias: str, timeout_s: float, no_wait: bool, as_json: bool) -> None:
    """Let MODEL answer with the version that served before, and wait for the workers.

    \b
    Examples:
      scoreline rollback pima
      scoreline rollback pima --alias candidate
    """
    timeout = None if no_wait else timeout_s
    _release(
        model,
        alias,
        lambda store, seen: releases.rollback(store, model, alias, seen=seen),
        timeout,
        as_json,
    )


def _release(
    model: str,
    alias: str,
    change: Callable[[Store, LogMarks], Release],
    timeout_s: float | None,
    as_json: bool,
) -> NoReturn:
    try:
        # All that can fail beside the release itself comes before it.
        settings = ClientSettings.from_environment()
        redis = connect(settings)
        store = Store.from_environment()
        before = None
        # A last entry that is not trusted is no obstacle to promote; rollback refuses it by itself.
        with suppress(UntrustedArtifact, CorruptArtifact):
            before = releases.current(store, model, alias)
        release = change(store, LogMarks.from_environment())
    except ScorelineError as error:
        error.exit_status = REFUSED  # whatever failed: nothing was released
        raise
    store_name = shown_name(address_of(store.storage))
    sys.exit(
        roll_out(
            release, before, settings, redis, store=store_name, timeout_s=timeout_s, as_json=as_json
        )
    )


@command()
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help="Port of the embedded server; if not given, that of SCORELINE_REDIS_URL.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    help="Worker processes that score; if not given, one for each core.",
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=DATA,
    show_default=True,
    help="Where the embedded server keeps its data.",
)
def up(port: int | None, concurrency: int | None, data: Path) -> None:
    """Run an embedded Redis server and a worker here, for development; Ctrl-C stops both.

    \b
    Examples:
      scoreline up
      scoreline up --port 6380 --concurrency 2
    """
    console = Console()
    with interruptible():
        try:
            serve_here(console, port, concurrency, data)
        except KeyboardInterrupt:
            console.print("stopped")


@command()
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    default=story.ROWS,
    show_default=True,
    help="Rows of the CSV file that is scored.",
)
@click.option("--keep", is_flag=True, help="Keep the files, and say where they are.")
def demo(rows: int, keep: bool) -> None:
    """Tell the whole story in a minute: train, serve, score, promote under load.

    Everything happens in a temporary directory and on a server of its own, and is gone at the end.

    \b
    Examples:
      scoreline demo
      scoreline demo --rows 1000000 --keep
    """
    with interruptible():
        try:
            sys.exit(story.tell(Console(), rows, keep))
        except KeyboardInterrupt:
            click.echo("interrupted; everything that was started is stopped", err=True)
            sys.exit(INTERRUPTED)
