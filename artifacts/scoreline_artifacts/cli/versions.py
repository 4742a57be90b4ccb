"""`scoreline versions`: what is in the store, without unpickling any of it."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from scoreline_artifacts.cli.explained import explained
from scoreline_artifacts.errors import (
    ArtifactError,
    CorruptArtifact,
    InvalidName,
    UnknownAliasError,
    UnknownModelError,
    UntrustedArtifact,
)
from scoreline_artifacts.store import releases
from scoreline_artifacts.store.store import Store
from scoreline_client.protocol.names import split_reference


@click.command()
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def versions(model: str, as_json: bool) -> None:
    """List the versions of MODEL and what points at them.

    \b
    Examples:
      scoreline versions pima
      scoreline versions pima --json
    """
    with explained():
        store = Store.from_environment()
        found = store.versions(model)
        if not found:
            raise UnknownModelError(model, store.root, store.models())
        named = _named(store, model)
        rows = [_row(store, model, version, named.get(version, [])) for version in found]
    if as_json:
        click.echo(json.dumps(rows))
        return
    table = Table(
        "version", "released as", "created", "metrics", "signed by", title=f"model {model}"
    )
    for row in rows:
        figures = {k: v for k, v in row["metrics"].items() if isinstance(v, int | float)}
        metrics = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
        aliases = ", ".join(row["aliases"]) or "–"
        seen = (metrics, (row["key"] or "")[:8]) if row["key"] else (escape(row["refused"]), "–")
        # To the minute, so that the row fits on a terminal; --json has the whole of it.
        created = (row["created_at"] or "–")[:16].replace("T", " ")
        table.add_row(str(row["version"]), aliases, created, *seen)
    Console().print(table)


def _named(store: Store, model: str) -> dict[int, list[str]]:
    """Aliases by the version that they name; one whose log is not right names none."""
    named: dict[int, list[str]] = {}
    for alias in releases.aliases(store, model):
        try:
            release = releases.current(store, model, alias)
        except ArtifactError as error:
            click.echo(f"Warning: {alias} names nothing: {error}", err=True)
        else:
            if release is not None:
                named.setdefault(release.version, []).append(alias)
    return named


def _row(store: Store, model: str, version: int, aliases: list[str]) -> dict[str, Any]:
    row: dict[str, Any] = {"version": version, "aliases": aliases}
    try:
        found = store.verified(model, version)
    except (CorruptArtifact, UntrustedArtifact) as error:
        return {**row, "created_at": None, "metrics": {}, "key": None, "refused": str(error)}
    return {
        **row,
        "created_at": found.manifest.created_at,
        "metrics": found.manifest.metrics,
        "key": found.key,
        "refused": None,
    }


def resolve(store: Store, reference: str) -> tuple[str, int]:
    """Model and version that a reference names: `name`, `name@alias` or `name@version`.

    Raises:
        ArtifactError: it names nothing.
    """
    try:
        name, alias, version = split_reference(reference)
    except ValueError as error:
        raise InvalidName(reference, str(error)) from error
    if alias is None:
        return name, int(version or 0)
    release = releases.current(store, name, alias)
    if release is None:
        if not store.versions(name):
            raise UnknownModelError(name, store.root, store.models())
        raise UnknownAliasError(name, alias, releases.aliases(store, name))
    return name, release.version
