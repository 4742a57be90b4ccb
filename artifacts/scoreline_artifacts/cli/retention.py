"""`scoreline prune`, `pin` and `unpin`: which versions the store keeps.

Exit codes: 0 as asked; 1 some versions were removed, the others could not be; 2 it cannot be done, and
nothing was removed; 3 the store cannot be reached, and nothing was removed.
"""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import timedelta

import click

from scoreline_artifacts.store import retention
from scoreline_artifacts.store.store import Store
from scoreline_client.cli.kit import VERSION, command, json_option, print_json, say

_HOURS = {"h": 1, "d": 24, "w": 7 * 24}


def age(_: click.Context, __: click.Parameter, text: str | None) -> timedelta | None:
    """A span of time: a number of hours, days or weeks, such as 12h, 30d or 2w."""
    match = re.fullmatch(r"([0-9]{1,5})([hdw])", text or "0h")
    if match is None:
        raise click.BadParameter(f"{text!r} is no age; expected one such as 12h, 30d or 2w")
    return None if text is None else timedelta(hours=int(match[1]) * _HOURS[match[2]])


_version = click.argument("version", type=VERSION)


@command()
@click.argument("model")
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    default=retention.KEEP,
    show_default=True,
    metavar="N",
    help="Keep the newest N versions in any case.",
)
@click.option(
    "--older-than",
    "older_than",
    callback=age,
    metavar="AGE",
    help="Remove only what was neither published nor in force within this time, such as 30d, 12h or 2w; shorter "
    "than seven days, it replaces them: with 0h all goes at once that nothing else keeps.",
)
@click.option("--dry-run", is_flag=True, help="Say what would go and what would stay; do nothing.")
@json_option()
def prune(
    model: str, keep: int, older_than: timedelta | None, dry_run: bool, as_json: bool
) -> None:
    """Remove versions of MODEL that nothing needs any more, and what killed publishers left.

    Kept is what an alias names, what a rollback would name, what was in force within the last seven
    days, what is pinned, and the newest versions.

    \b
    Examples:
      scoreline prune pima --dry-run
      scoreline prune pima --keep 3 --json
      scoreline prune pima --keep 1 --older-than 1d
    """
    plan_or_prune = retention.plan if dry_run else retention.prune
    result = plan_or_prune(Store.from_environment(), model, keep=keep, older_than=older_than)
    if as_json:
        print_json(asdict(result) | {"dry_run": dry_run})
        return
    for version, reasons in result.kept.items():
        say(f"kept     {model}@{version}: {'; '.join(reasons)}")
    verb = "would go" if dry_run else "removed "
    for version in result.removed:
        say(f"{verb} {model}@{version}")
    if result.asked_for:
        versions = ", ".join(f"{model}@{version}" for version in result.asked_for)
        within = retention.in_words(retention.IN_USE)
        say(
            f"note: {versions} {'was' if len(result.asked_for) == 1 else 'were'} in force within {within}: requests and "
            f"jobs may still ask for {'it' if len(result.asked_for) == 1 else 'them'} by number, and are refused then"
        )
    for leftover in result.leftovers:
        say(f"removed  {leftover}: a publisher that was killed had left it")
    if not result.removed:
        say("every version is needed")


@command()
@click.argument("model")
@_version
@json_option()
def pin(model: str, version: int, as_json: bool) -> None:
    """Keep VERSION of MODEL, whatever `scoreline prune` removes, until it is unpinned.

    \b
    Examples:
      scoreline pin pima 3
    """
    retention.pin(Store.from_environment(), model, version)
    if as_json:
        print_json({"model": model, "version": version, "pinned": True})
    else:
        say(f"pinned {model}@{version}")


@command()
@click.argument("model")
@_version
@json_option()
def unpin(model: str, version: int, as_json: bool) -> None:
    """Let `scoreline prune` remove VERSION of MODEL again, if nothing else needs it.

    \b
    Examples:
      scoreline unpin pima 3
    """
    was_pinned = retention.unpin(Store.from_environment(), model, version)
    if as_json:
        print_json({"model": model, "version": version, "pinned": False, "was_pinned": was_pinned})
    else:
        reference = f"{model}@{version}"
        say(f"unpinned {reference}" if was_pinned else f"{reference} was not pinned")
