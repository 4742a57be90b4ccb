"""`scoreline versions`: what is in the store, without unpickling any of it."""

from __future__ import annotations

from typing import Any

import click

from scoreline_artifacts.errors import (
    ArtifactError,
    CorruptArtifact,
    InvalidName,
    UnknownAliasError,
    UnknownModelError,
    UntrustedArtifact,
)
from scoreline_artifacts.store import releases
from scoreline_artifacts.store.identity import address_of
from scoreline_artifacts.store.store import Store
from scoreline_client.cli.kit import command, json_option, print_json, print_table, say
from scoreline_client.cli.reasons import Reasons
from scoreline_client.protocol.names import NAME_RULE, split_reference
from scoreline_client.shown import shown_name


@command()
@click.argument("model")
@json_option("Print one JSON array.")
def versions(model: str, as_json: bool) -> None:
    """List the versions of MODEL and what points at them.

    \b
    Examples:
      scoreline versions pima
      scoreline versions pima --json
    """
    store = Store.from_environment()
    numbers = store.versions(model)
    if not numbers:
        raise UnknownModelError(model, store.root, store.models())
    aliases: dict[int, list[str]] = {number: [] for number in numbers}
    for alias in releases.aliases(store, model):
        try:
            release = releases.current(store, model, alias)
        except ArtifactError as error:
            say(f"Warning: {alias} names nothing: {error}", err=True)
        else:
            if release is not None:
                aliases.setdefault(release.version, []).append(alias)
    rows: list[dict[str, Any]] = []
    for number in numbers:
        row: dict[str, Any] = {"version": number, "aliases": aliases[number]}
        row |= {"created_at": None, "metrics": {}, "key": None, "refused": None}
        try:
            verified = store.verified(model, number)
        except (CorruptArtifact, UntrustedArtifact) as error:
            row["refused"] = str(error)
        else:
            row["created_at"] = verified.manifest.created_at
            row["metrics"] = verified.manifest.metrics
            row["key"] = verified.key
        rows.append(row)
    if as_json:
        print_json(rows)
    else:
        columns = ("version", "released as", "created", "metrics", "signed by")
        reasons = Reasons()
        print_table(f"model {model}", columns, (_cells(row, reasons) for row in rows))
        for line in reasons.lines():
            say(line, in_line=True)
        say(f"artifact store: {shown_name(address_of(store.storage))}", in_line=True)


def _cells(row: dict[str, Any], reasons: Reasons) -> tuple[str, ...]:
    version, aliases = str(row["version"]), ", ".join(row["aliases"]) or "–"
    if row["key"] is None:
        return version, aliases, "–", reasons.short(row["refused"]), "–"
    figures = ((k, v) for k, v in row["metrics"].items() if isinstance(v, int | float))
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in figures)
    # To the minute, so that the row fits on a terminal; --json has the whole of it.
    created = row["created_at"][:16].replace("T", " ")
    return version, aliases, created, metrics, row["key"][:8]


def resolve(store: Store, reference: str) -> tuple[str, int]:
    """The model and the version that a reference names: `name`, `name@alias` or `name@version`.

    Raises:
        ArtifactError: it names nothing.
    """
    try:
        name, alias, version = split_reference(reference)
    except ValueError as error:
        rule = f"expected NAME, NAME@ALIAS or NAME@VERSION; a name has {NAME_RULE}"
        raise InvalidName(reference, rule) from error
    if alias is None:
        return name, int(version or 0)
    release = releases.current(store, name, alias)
    if release is None:
        if not store.versions(name):
            raise UnknownModelError(name, store.root, store.models())
        raise UnknownAliasError(name, alias, releases.aliases(store, name))
    return name, release.version
