"""`scoreline inspect`: what an artifact holds and needs, without unpickling it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import click
from rich.console import Console, Group
from rich.table import Column, Table

from scoreline_artifacts import environment, golden, schema
from scoreline_artifacts.cli.cells import in_short
from scoreline_artifacts.cli.versions import resolve
from scoreline_artifacts.manifest import GOLDEN, PLAN, SOURCES, STEP_PARAMETERS, Manifest
from scoreline_artifacts.store.store import Store, VerifiedManifest
from scoreline_client.cli.kit import (
    PARTLY,
    command,
    json_option,
    plain,
    print_json,
    say,
    say_json,
    table,
)

GOLDEN_SHOWN = 3
CATEGORIES_SHOWN = 8
MOST_ROWS_SHOWN = 1_000_000


@command()
@click.argument("model")
@click.option("--check", is_flag=True, help="Say whether this environment can serve it, too.")
@click.option(
    "--requirements",
    "is_for_pip",
    is_flag=True,
    help="Print what is to be installed where it serves, pinned, for pip install -r.",
)
@json_option("Print the manifest as it is.")
@click.pass_context
def inspect(ctx: click.Context, model: str, check: bool, is_for_pip: bool, as_json: bool) -> None:
    """Show what an artifact holds and needs, without unpickling it.

    MODEL is a name (what production names), name@alias or name@version. The signature and every
    file are verified. With --check it is loaded as well, in a process apart, and scores its golden
    rows there: exit code 1 says that it cannot be served here.

    \b
    Examples:
      scoreline inspect pima
      scoreline inspect pima@2 --check
      scoreline inspect pima@2 --json
      scoreline inspect pima --requirements > requirements.txt
    """
    if is_for_pip and (check or as_json):
        raise click.UsageError("--requirements goes without --check and --json")
    store = Store.from_environment()
    verified = store.verified(*resolve(store, model))
    manifest = verified.manifest
    if is_for_pip:
        for line in environment.requirements(manifest):
            say(line, in_line=True)
        return
    rows = golden.decode(store.read(manifest, GOLDEN))
    checked = None
    if check:
        checked = _check(manifest, store.read_all(manifest))
    else:
        for name in manifest.files:
            store.read(manifest, name)  # verified one by one: all of them need not fit into memory
    if as_json and checked is not None:
        print_json({"manifest": json.loads(manifest.encode()), "check": checked.as_json()})
    elif as_json:
        say_json(manifest.encode().decode())
    else:
        plan = plan_in_words(store.read(manifest, PLAN) if PLAN in manifest.files else None)
        tables = _tables(verified, rows, plan)
        Console().print(Group(*tables, *(checked.lines() if checked else ())))
    if checked is not None and not checked.usable:
        ctx.exit(PARTLY)


@dataclass(frozen=True, slots=True)
class Servability:
    """Whether this environment can serve a version, and why not."""

    differences: list[environment.Difference] = field(default_factory=list)
    failure: str | None = None
    """Why it could not be loaded or answered otherwise, or None."""
    repair: str = ""
    """What to do where something is missing here."""

    @property
    def usable(self) -> bool:
        """Whether it can be served here."""
        return self.failure is None and not any(difference.fatal for difference in self.differences)

    def as_json(self) -> dict[str, Any]:
        """The result for programs."""
        return {
            "usable": self.usable,
            "failure": self.failure,
            "differences": [asdict(difference) for difference in self.differences],
        }

    def lines(self) -> Iterator[str]:
        """The result for people, with rich's markup."""
        for difference in self.differences:
            yield f"{'[red]✗' if difference.fatal else '[yellow]![/yellow]'} {plain(difference.reason)}"
        if self.failure is not None:
            yield f"[red]✗[/red] {plain(self.failure)}"
        if self.usable:
            yield "[green]✓[/green] this environment can serve it: its golden rows came out the same"
        else:
            yield "[red]✗ this environment cannot serve it[/red]"
            yield plain(self.repair)


def _check(manifest: Manifest, files: dict[str, bytes]) -> Servability:
    from scoreline_artifacts.packaging import clean_room

    differences = environment.differences(manifest)
    if any(difference.fatal for difference in differences):
        return Servability(differences, repair=environment.repair(manifest))
    failure = clean_room.prove(manifest, files).failure
    reason = f"{failure.kind}: {failure.message}" if failure else None
    return Servability(differences, reason, environment.repair(manifest) if differences else "")


def plan_in_words(data: bytes | None) -> str:
    """Whether the plan of a version is used here, and what publishing found out about it."""
    from scoreline_artifacts.loading.planned import PlanProof

    if data is None:
        return "none: published by an earlier release"
    proof = PlanProof.decode(data)
    if reason := proof.unusable():
        return f"not used: {reason}"
    called = f", of which {len(proof.opaque)} are called: {'; '.join(proof.opaque)}"
    error = f"within {proof.max_error:.2g} of each" if proof.max_error else "to the last digit"
    limit = ""
    if proof.up_to_rows <= MOST_ROWS_SHOWN:
        limit = f"; used for up to {proof.up_to_rows:,} rows at a time, and the pipeline for more"
    return (
        f"{proof.nodes + 1} steps{called if proof.opaque else ''}; its answers for {proof.rows:,} rows are "
        f"the pipeline's {error}{limit}"
    )


def _tables(verified: VerifiedManifest, rows: list[golden.GoldenRow], plan: str) -> Iterator[Table]:
    manifest = verified.manifest
    yield _facts(manifest, verified.key, plan)
    yield table(
        "input",
        ("column", "type", "in a record", "range or categories"),
        (
            (column.name, column.type, column.presence, _values(column))
            for column in manifest.schema.columns
        ),
    )
    yield _needs(manifest)
    modules = {file: name for name, file in manifest.sources.items()}
    if files := sorted(name for name in manifest.files if name.startswith(SOURCES)):
        yield table(
            "from the training project",
            ("travels along", "file", Column("bytes", justify="right")),
            (
                (
                    modules.get(file, "data file"),
                    file.removeprefix(SOURCES),
                    f"{manifest.files[file].size:,}",
                )
                for file in files
            ),
        )
    yield table(
        f"{len(rows)} golden rows",
        ("record", "answer", "probabilities"),
        (
            (
                in_short(row.record),
                str(row.value),
                ", ".join(f"{probability:.4g}" for probability in row.probabilities[:5])
                if row.probabilities is not None
                else "",
            )
            for row in rows[:GOLDEN_SHOWN]
        ),
    )


def _facts(manifest: Manifest, key: str, plan: str) -> Table:
    facts = {
        "created": manifest.created_at,
        "signed by": key,
        "format": str(manifest.format_version),
        "method": manifest.outputs.method,
        "classes": str(manifest.outputs.classes),
        "batchable": "yes" if manifest.batchable else "no: scored request by request",
        "plan": plan,
    }
    for title, values in (("metrics", manifest.metrics), ("training", manifest.training)):
        facts |= {f"{title}: {name}": str(value) for name, value in values.items()}
    if isinstance(parameters := manifest.training.get(STEP_PARAMETERS), dict):
        facts[f"training: {STEP_PARAMETERS}"] = (
            f"{len(parameters)}, which --json lists and `scoreline diff` compares"
        )
    for name, entry in manifest.files.items():
        if not name.startswith(SOURCES):
            facts[name] = f"{entry.size:,} bytes, sha256 {entry.sha256[:16]}…"
    return table(f"{manifest.model}@{manifest.version}", (), facts.items())


def _values(column: schema.Column) -> str:
    if column.categories is not None:
        more = " …" if len(column.categories) > CATEGORIES_SHOWN else ""
        return ", ".join(map(str, column.categories[:CATEGORIES_SHOWN])) + more
    return "" if column.minimum is None else f"{column.minimum:g} … {column.maximum:g}"


def _needs(manifest: Manifest) -> Table:
    here = environment.versions_of({*manifest.libraries, *manifest.imports})
    rows = [
        (name, trained, here.get(name, "not installed"), reason)
        for libraries, reason in (
            (manifest.libraries, "the pipeline"),
            (manifest.imports, "sources"),
        )
        for name, trained in libraries.items()
    ]
    if manifest.by_value:
        functions = ", ".join(manifest.by_value[:GOLDEN_SHOWN])
        rows.append((functions, "bytecode", "", "this Python only"))
    return table("environment", ("needs", "in training", "here", "for"), rows)
