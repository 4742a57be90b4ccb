"""`scoreline inspect`: what an artifact holds and needs, without unpickling it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import click
from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table

from scoreline_artifacts import environment, golden
from scoreline_artifacts.cli.explained import explained
from scoreline_artifacts.cli.versions import resolve
from scoreline_artifacts.manifest import GOLDEN, SOURCES, Manifest
from scoreline_artifacts.schema import Column
from scoreline_artifacts.store.store import Store, VerifiedManifest

GOLDEN_SHOWN = 3
CATEGORIES_SHOWN = 8


@click.command()
@click.argument("model")
@click.option("--check", is_flag=True, help="Say whether this environment can serve it, too.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as it is.")
def inspect(model: str, check: bool, as_json: bool) -> None:
    """Show what an artifact holds and needs, without unpickling it.

    MODEL is a name (what production names), name@alias or name@version. The signature and every
    file are verified. With --check it is loaded as well, in a process apart, and scores its golden
    rows there: exit code 1 says that it cannot be served here.

    \b
    Examples:
      scoreline inspect pima
      scoreline inspect pima@2 --check
      scoreline inspect pima@2 --json
    """
    with explained():
        store = Store.from_environment()
        verified = store.verified(*resolve(store, model))
        manifest = verified.manifest
        rows = golden.decode(store.read(manifest, GOLDEN))
        if check:
            checked = _check(manifest, store.read_all(manifest))
        else:
            checked = None
            for name in manifest.files:
                store.read(manifest, name)  # verified, one after the other, and let go
    if as_json:
        click.echo(_as_json(manifest, checked))
    else:
        Console().print(Group(*_shown(verified, rows), *(checked.shown() if checked else ())))
    if checked is not None and not checked.usable:
        raise click.exceptions.Exit(1)


@dataclass(frozen=True, slots=True)
class Checked:
    """What this environment makes of a version."""

    differences: list[environment.Difference] = field(default_factory=list)
    failure: str | None = None
    """Why it could not be loaded or answered otherwise, or None."""

    @property
    def usable(self) -> bool:
        """Whether it can be served here."""
        return self.failure is None and not any(one.fatal for one in self.differences)

    def shown(self) -> Iterator[str]:
        """The same for people."""
        for one in self.differences:
            yield f"{'[red]✗' if one.fatal else '[yellow]![/yellow]'} {escape(one.reason)}"
        if self.failure is not None:
            yield f"[red]✗[/red] {escape(self.failure)}"
        if self.usable:
            yield "[green]✓[/green] this environment can serve it: its golden rows came out the same"
        else:
            yield "[red]✗ this environment cannot serve it[/red]"


def _check(manifest: Manifest, files: dict[str, bytes]) -> Checked:
    from scoreline_artifacts.packaging import clean_room

    found = environment.differences(manifest)
    if any(one.fatal for one in found):
        return Checked(found)
    failure = clean_room.prove(manifest, files).failure
    return Checked(found, f"{failure.kind}: {failure.message}" if failure else None)


def _as_json(manifest: Manifest, checked: Checked | None) -> str:
    if checked is None:
        return manifest.encode().decode()
    said = {
        "manifest": json.loads(manifest.encode()),
        "check": {
            "usable": checked.usable,
            "failure": checked.failure,
            "differences": [asdict(one) for one in checked.differences],
        },
    }
    return json.dumps(said)


def _shown(verified: VerifiedManifest, rows: list[golden.GoldenRow]) -> Iterator[Table]:
    manifest = verified.manifest
    yield _facts(manifest, verified.key)
    yield _input(manifest.schema.columns)
    yield _needs(manifest)
    travelling = [name for name in manifest.files if name.startswith(SOURCES)]
    if travelling:
        yield _sources(manifest, travelling)
    yield _golden(rows)


def _facts(manifest: Manifest, key: str) -> Table:
    table = Table(show_header=False, title=f"{manifest.model}@{manifest.version}")
    table.add_row("created", manifest.created_at)
    table.add_row("signed by", key)
    table.add_row("format", str(manifest.format_version))
    table.add_row("method", manifest.outputs.method)
    table.add_row("classes", escape(str(manifest.outputs.classes)))
    table.add_row("batchable", "yes" if manifest.batchable else "no: scored request by request")
    for title, values in (("metrics", manifest.metrics), ("training", manifest.training)):
        for name, value in values.items():
            table.add_row(f"{title}: {escape(name)}", escape(str(value)))
    for name, entry in manifest.files.items():
        if not name.startswith(SOURCES):
            table.add_row(name, f"{entry.size:,} bytes, sha256 {entry.sha256[:16]}…")
    return table


def _input(columns: Iterable[Column]) -> Table:
    table = Table("column", "type", "may be missing", "range or categories", title="input")
    for column in columns:
        table.add_row(
            escape(column.name), column.type, "yes" if column.nullable else "no", _values(column)
        )
    return table


def _values(column: Column) -> str:
    if column.categories is not None:
        more = " …" if len(column.categories) > CATEGORIES_SHOWN else ""
        return escape(", ".join(map(str, column.categories[:CATEGORIES_SHOWN])) + more)
    return "" if column.minimum is None else f"{column.minimum:g} … {column.maximum:g}"


def _needs(manifest: Manifest) -> Table:
    here = environment.versions_of({*manifest.libraries, *manifest.imports})
    table = Table("needs", "in training", "here", "for", title="environment")
    for libraries, reason in ((manifest.libraries, "the pipeline"), (manifest.imports, "sources")):
        for name, trained in libraries.items():
            table.add_row(name, trained, here.get(name, "not installed"), reason)
    if manifest.by_value:
        shown = ", ".join(manifest.by_value[:GOLDEN_SHOWN])
        table.add_row(escape(shown), "bytecode", "", "this Python only")
    return table


def _sources(manifest: Manifest, files: list[str]) -> Table:
    modules = {file: name for name, file in manifest.sources.items()}
    table = Table("travels along", "file", title="from the training project")
    table.add_column("bytes", justify="right")
    for file in sorted(files):
        what = modules.get(file, "data file")
        size = f"{manifest.files[file].size:,}"
        table.add_row(escape(what), escape(file.removeprefix(SOURCES)), size)
    return table


def _golden(rows: list[golden.GoldenRow]) -> Table:
    table = Table("record", "answer", "probabilities", title=f"{len(rows)} golden rows")
    for row in rows[:GOLDEN_SHOWN]:
        probabilities: Any = row.probabilities
        table.add_row(
            escape(json.dumps(row.record)[:120]),
            escape(str(row.value)),
            "" if probabilities is None else ", ".join(f"{one:.4g}" for one in probabilities[:5]),
        )
    return table
