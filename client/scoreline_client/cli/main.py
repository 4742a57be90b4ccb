"""The `scoreline` program: its commands, wherever they live, and its exit codes.

Commands register under the entry point group `scoreline.commands`, beside the code that they run. A
command is imported when it is called, so that `scoreline --help` and `scoreline status` are as quick
as the smallest install.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NoReturn

import click
import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from scoreline_client.cli.status import status
from scoreline_client.client import Client
from scoreline_client.errors import (
    MissingDependency,
    NoAnswer,
    QueueFull,
    RecordRejected,
    ScorelineError,
    ServerUnreachable,
)
from scoreline_client.predictions import Prediction

__all__ = ["Seconds", "exit_code", "main", "predict", "status"]

REJECTED, REFUSED, SERVICE, INTERRUPTED = 1, 2, 3, 130


@dataclass(frozen=True, slots=True)
class _Listed:
    """What is said of a command without importing it."""

    help: str
    extra: str = "all"
    """What to install if it cannot be imported."""


_LISTED = {
    "demo": _Listed("The whole story on an embedded server, in a minute."),
    "up": _Listed("Run an embedded server and a worker, for development."),
    "train": _Listed("Run a training job and publish what it fits.", "training"),
    "predict": _Listed("Predict records given as JSON."),
    "score": _Listed("Score files into files: CSV, JSON Lines, Parquet."),
    "check": _Listed("Look at a file as a model would, without scoring it."),
    "versions": _Listed("List the versions of a model.", "worker"),
    "promote": _Listed("Let a model answer with a version.", "worker"),
    "rollback": _Listed("Let a model answer with the version before.", "worker"),
    "status": _Listed("Show queues, workers and the versions that they serve."),
    "inspect": _Listed("Show what an artifact holds and needs.", "worker"),
    "pin": _Listed("Keep a version, whatever prune removes.", "worker"),
    "unpin": _Listed("Let prune remove a version again.", "worker"),
    "prune": _Listed("Remove the versions that nothing needs.", "worker"),
    "keygen": _Listed("Make the key pair that signs what is published here.", "worker"),
    "keys": _Listed("List, trust and revoke the keys that sign.", "worker"),
}
"""In the order in which they are listed."""


def exit_code(error: ScorelineError) -> int:
    """What a program that ends with an error returns to its caller."""
    if isinstance(error, RecordRejected):
        return REJECTED
    if isinstance(error, ServerUnreachable | NoAnswer | QueueFull):
        return SERVICE
    return REFUSED


class Seconds(click.FloatRange):
    """So many seconds: `inf` and `nan`, which are numbers to Python, are none."""

    name = "seconds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number, in its range."""
        seconds = float(super().convert(value, param, ctx))
        if not math.isfinite(seconds):
            self.fail(f"{value} is no number of seconds", param, ctx)
        return seconds


class _Commands(click.Group):
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
        found = _installed().get(cmd_name)
        return None if found is None else _load(found)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, self._short_help(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ScorelineError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(exit_code(error))
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(INTERRUPTED)

    def _short_help(self, ctx: click.Context, name: str) -> str:
        if name in _LISTED:
            return _LISTED[name].help
        command = self.get_command(ctx, name)
        return command.get_short_help_str() if command else ""


def _installed() -> dict[str, EntryPoint]:
    return {one.name: one for one in entry_points(group="scoreline.commands")}


def _load(found: EntryPoint) -> click.Command:
    try:
        command: click.Command = found.load()
    except ImportError as error:
        if not error.name or error.name.startswith("scoreline_"):
            raise  # our own mistake, not something to install
        return _unavailable(found.name, error.name)
    return command


def _unavailable(name: str, package: str) -> click.Command:
    """A command that says, whatever it is given, what to install for it."""

    def tell() -> NoReturn:
        extra = _LISTED.get(name, _Listed("")).extra
        raise MissingDependency(f"scoreline {name}", package.partition(".")[0], extra)

    anything = {"ignore_unknown_options": True, "allow_extra_args": True}
    return click.Command(name, callback=tell, context_settings=anything, add_help_option=False)


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


@click.command()
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
@click.option("--json", "as_json", is_flag=True, help="Print JSON: an object for an object.")
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
    given = _parse(text)
    with Client() as client:
        records = [given] if isinstance(given, dict) else given
        predictions = client.predict_many(model, records, timeout=timeout_s)
    if as_json:
        shown = [asdict(one) for one in predictions]
        _print_json(shown[0] if isinstance(given, dict) else shown)
    else:
        Console().print(_table(predictions))
    if any(one.error for one in predictions):
        ctx.exit(REJECTED)


def _parse(text: str) -> Any:
    """Not orjson: it reads a number of thirty digits as another one, without a word."""
    try:
        given = json.loads(sys.stdin.buffer.read() if text == "-" else text)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"JSON cannot be read: {error}") from error
    if not isinstance(given, dict | list):
        kind = type(given).__name__
        raise click.UsageError(f"JSON must be an object or an array of objects, not {kind}")
    return given


def _print_json(shown: object) -> None:
    click.echo(orjson.dumps(shown, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS))


def _table(predictions: Iterable[Prediction]) -> Table:
    predictions = list(predictions)
    classes = list(dict.fromkeys(name for one in predictions for name in one.probabilities))
    scored = next((one for one in predictions if one.error is None), predictions[0])
    table = Table(title=f"{scored.model}@{scored.version}")
    names = [f"probability_{name}" for name in classes]
    for name in ("record", "prediction", *names, "error"):
        table.add_column(escape(name), justify="left" if name == "error" else "right")
    for place, one in enumerate(predictions):
        shares = (f"{one.probabilities[name]:.4f}" if one.probabilities else "" for name in classes)
        value = "" if one.error else escape(str(one.value))
        error = escape(f"{one.error.code}: {one.error.message}") if one.error else ""
        table.add_row(str(place), value, *shares, error)
    return table
