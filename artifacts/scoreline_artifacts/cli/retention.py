"""`scoreline prune`, `pin` and `unpin`: which versions the store keeps.

Exit codes: 0 as asked; 1 some versions were removed, the others could not be; 2 it cannot be done, and
nothing was removed; 3 the store cannot be reached, and nothing was removed.
"""

from __future__ import annotations

from dataclasses import asdict

import click

from scoreline_artifacts.store import retention
from scoreline_artifacts.store.store import Store
from scoreline_client.cli.kit import VERSION, command, json_option, print_json, say

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
@click.option("--dry-run", is_flag=True, help="Say what would go and what would stay; do nothing.")
@json_option()
def prune(model: str, keep: int, dry_run: bool, as_json: bool) -> None:
    """Remove versions of MODEL that nothing needs any more, and what killed publishers left.

    Kept is what an alias names, what a rollback would name, what was in force within the last seven
    days, what is pinned, and the newest versions.

    \b
    Examples:
      scoreline prune pima --dry-run
      scoreline prune pima --keep 3 --json
    """
    work = retention.plan if dry_run else retention.prune
    result = work(Store.from_environment(), model, keep=keep)
    if as_json:
        print_json(asdict(result) | {"dry_run": dry_run})
        return
    for version, reasons in result.kept.items():
        say(f"kept     {model}@{version}: {'; '.join(reasons)}")
    verb = "would go" if dry_run else "removed "
    for version in result.removed:
        say(f"{verb} {model}@{version}")
    for left in result.leftovers:
        say(f"removed  {left}: a publisher that was killed had left it")
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
    was = retention.unpin(Store.from_environment(), model, version)
    if as_json:
        print_json({"model": model, "version": version, "pinned": False, "was_pinned": was})
    else:
        say(f"unpinned {model}@{version}" if was else f"{model}@{version} was not pinned")
