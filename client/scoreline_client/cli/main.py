"""The `scoreline` program: finds the commands of every installed package.

Commands register under the entry point group `scoreline.commands`, beside the code that they run. A
command is imported when it is called, so that `scoreline --help` and `scoreline status` are as quick
as the smallest install.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import NoReturn

import click

from scoreline_client.cli.kit import Command, Group, say
from scoreline_client.errors import MissingDependency
from scoreline_client.protocol.names import near_name
from scoreline_client.settings import misspelt_variables


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
            elif (command := self.get_command(ctx, name)) is not None:
                rows.append((name, command.get_short_help_str()))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _installed() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group="scoreline.commands")}


def _load(entry: EntryPoint) -> click.Command:
    """The command, or one that ignores its arguments and says what to install."""
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
