"""`scoreline versions` and `scoreline inspect`: what is in the store, without unpickling any of it."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from scoreline_artifacts import releases
from scoreline_artifacts.errors import (
    ArtifactError,
    CorruptArtifact,
    UnknownAliasError,
    UnknownModelError,
    UntrustedArtifact,
)
from scoreline_artifacts.explained import explained
from scoreline_artifacts.manifest import Manifest
from scoreline_artifacts.store import Store


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
        table.add_row(str(row["version"]), aliases, row["created_at"] or "–", *seen)
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


@click.command()
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as it is.")
def inspect(model: str, as_json: bool) -> None:
    """Show what an artifact holds and needs, without unpickling it.

    MODEL is a name (what production names), name@alias or name@version.

    \b
    Examples:
      scoreline inspect pima
      scoreline inspect pima@2 --json
    """
    with explained():
        store = Store.from_environment()
        manifest = store.manifest(*_resolve(store, model))
    if as_json:
        click.echo(manifest.encode())
    else:
        _print(manifest)


def _resolve(store: Store, reference: str) -> tuple[str, int]:
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


def _print(manifest: Manifest) -> None:
    console = Console()
    facts = Table(show_header=False, title=f"{manifest.model}@{manifest.version}")
    facts.add_row("created", manifest.created_at)
    facts.add_row("format", str(manifest.format_version))
    facts.add_row("method", manifest.outputs.method)
    facts.add_row("classes", str(manifest.outputs.classes))
    facts.add_row("batchable", "yes" if manifest.batchable else "no: scored request by request")
    for title, values in (("metrics", manifest.metrics), ("training", manifest.training)):
        for name, value in values.items():
            facts.add_row(f"{title}: {name}", str(value))
    needs = ", ".join(f"{name} {version}" for name, version in manifest.libraries.items())
    facts.add_row("trained with", needs)
    for name, entry in manifest.files.items():
        facts.add_row(name, f"{entry.size} bytes, sha256 {entry.sha256[:16]}…")
    console.print(facts)
    columns = Table("column", "type", "may be missing", "range or categories", title="input")
    for column in manifest.schema.columns:
        shown = "" if column.minimum is None else f"{column.minimum:g} … {column.maximum:g}"
        if column.categories is not None:
            shown = ", ".join(map(str, column.categories[:8]))
        columns.add_row(column.name, column.type, "yes" if column.nullable else "no", shown)
    console.print(columns)
