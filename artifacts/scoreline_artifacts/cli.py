"""`scoreline versions`: what is in the store, without unpickling any of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from scoreline_artifacts import releases
from scoreline_artifacts.errors import ArtifactError, UnknownAliasError, UnknownModelError
from scoreline_artifacts.store import Store


class Refused(click.ClickException):
    """Raised to end a command because what was asked for is not there."""

    exit_code = 2


@contextmanager
def explained() -> Iterator[None]:
    """Turn what the store says into a command's message and exit code."""
    try:
        yield
    except ArtifactError as error:
        raise Refused(str(error)) from error


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
        rows = [_row(store, model, version) for version in found]
    if as_json:
        click.echo(json.dumps(rows))
        return
    table = Table("version", "released as", "created", "metrics", title=f"model {model}")
    for row in rows:
        figures = {k: v for k, v in row["metrics"].items() if isinstance(v, int | float)}
        metrics = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
        table.add_row(
            str(row["version"]), ", ".join(row["aliases"]) or "–", row["created_at"], metrics
        )
    Console().print(table)


def _row(store: Store, model: str, version: int) -> dict[str, Any]:
    manifest = store.manifest(model, version)
    named = [
        alias
        for alias in releases.aliases(store, model)
        if (release := releases.current(store, model, alias)) and release.version == version
    ]
    return {
        "version": version,
        "aliases": named,
        "created_at": manifest.created_at,
        "metrics": manifest.metrics,
    }


def resolve(store: Store, reference: str) -> tuple[str, int]:
    """Model and version that a reference names: `name`, `name@alias` or `name@version`.

    Raises:
        ArtifactError: it names nothing.
    """
    name, at, rest = reference.partition("@")
    if rest.isdecimal():
        return name, int(rest)
    alias = rest if at else releases.PRODUCTION
    release = releases.current(store, name, alias)
    if release is None:
        if not store.versions(name):
            raise UnknownModelError(name, store.root, store.models())
        raise UnknownAliasError(name, alias, releases.aliases(store, name))
    return name, release.version
