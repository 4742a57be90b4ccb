"""`scoreline models` and `history`: what is in the store and released, and who released it when, with which key."""

from __future__ import annotations

from typing import Any

import click

from scoreline_artifacts.errors import ArtifactError, UnknownAliasError, UnknownModelError
from scoreline_artifacts.store import releases
from scoreline_artifacts.store.identity import address_of
from scoreline_artifacts.store.store import Store
from scoreline_client.cli.kit import command, json_option, print_json, print_table, say
from scoreline_client.cli.reasons import Reasons
from scoreline_client.shown import shown_name


@command()
@json_option("Print one JSON array.")
def models(as_json: bool) -> None:
    """List the models of the store, and which versions of them are released.

    \b
    Examples:
      scoreline models
      scoreline models --json
    """
    store = Store.from_environment()
    rows: list[dict[str, Any]] = []
    for model in store.models():
        numbers = store.versions(model)
        released: dict[str, int | None] = {}
        for alias in releases.aliases(store, model):
            try:
                release = releases.current(store, model, alias)
            except ArtifactError as error:
                say(f"Warning: {model}@{alias} names nothing: {error}", err=True)
                released[alias] = None
            else:
                released[alias] = release.version if release else None
        rows.append(
            {"model": model, "versions": numbers, "newest": max(numbers), "released": released}
        )
    if as_json:
        print_json(rows)
        return
    address = shown_name(address_of(store.storage))
    if not rows:
        say(
            f"no model is in {address}; `scoreline train` or publish() makes a version",
            in_line=True,
        )
        return
    print_table(
        "models",
        ("model", "versions", "newest", "released as"),
        (
            (
                row["model"],
                str(len(row["versions"])),
                str(row["newest"]),
                ", ".join(f"{alias} {version or '?'}" for alias, version in row["released"].items())
                or "–",
            )
            for row in rows
        ),
    )
    say(f"artifact store: {address}", in_line=True)


@command()
@click.argument("model")
@click.option("--alias", help="Of this alias alone.")
@json_option("Print one JSON array.")
def history(model: str, alias: str | None, as_json: bool) -> None:
    """List the releases of MODEL, the newest first: what was released, when, and with whose key.

    `scoreline keys` says whose a key is. An entry whose key is not trusted here is listed with the reason.

    \b
    Examples:
      scoreline history pima
      scoreline history pima --alias candidate --json
    """
    store = Store.from_environment()
    aliases = releases.aliases(store, model)
    if not aliases and not store.versions(model):
        raise UnknownModelError(model, store.root, store.models())
    if alias is not None and alias not in aliases:
        raise UnknownAliasError(model, alias, aliases)
    rows: list[dict[str, Any]] = []
    for name in aliases if alias is None else [alias]:
        for number in releases.numbers_of(store, model, name):
            row: dict[str, Any] = {"alias": name, "release": number, "version": None, "kind": None}
            row |= {"returns_to": None, "created_at": None, "key": None, "refused": None}
            try:
                release, row["key"] = releases.read_signed(store, model, name, number)
            except ArtifactError as error:
                row["refused"] = str(error)
            else:
                row |= {"version": release.version, "kind": release.kind}
                row |= {"returns_to": release.returns_to, "created_at": release.created_at}
            rows.append(row)
    rows.sort(key=lambda row: (row["created_at"] or "", row["release"]), reverse=True)
    if as_json:
        print_json(rows)
        return
    if not rows:
        say(f"no version of {model} was ever released; `scoreline promote` releases one")
        return
    columns = ("when (UTC)", "alias", "release", "what", "signed by")
    reasons = Reasons()
    print_table(f"releases of {model}", columns, (_cells(row, reasons) for row in rows))
    for line in reasons.lines():
        say(line, in_line=True)


def _cells(row: dict[str, Any], reasons: Reasons) -> tuple[str, ...]:
    entry = row["alias"], str(row["release"])
    if row["refused"] is not None:
        return "–", *entry, reasons.short(row["refused"]), "–"
    action = f"version {row['version']}"
    if row["kind"] == releases.ROLLBACK:
        action = f"back to version {row['version']}, as in release {row['returns_to']}"
    return row["created_at"][:16].replace("T", " "), *entry, action, row["key"][:8]
