"""`scoreline diff`: what is different between two versions of a model, and how each answers the other's golden rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from scoreline_artifacts import environment, golden
from scoreline_artifacts.cli.cells import in_pair, in_short
from scoreline_artifacts.cli.versions import resolve
from scoreline_artifacts.errors import ArtifactError
from scoreline_artifacts.loading.artifact import assemble
from scoreline_artifacts.manifest import GOLDEN, MANIFEST, SOURCES, STEP_PARAMETERS, Manifest
from scoreline_artifacts.packaging import clean_room
from scoreline_artifacts.store.store import Store
from scoreline_artifacts.validation import frame_of_records
from scoreline_client.cli.kit import command, json_option, print_json, print_table, say

LIMIT_S = 120.0
"""Seconds that a version may take to be loaded and to answer."""
_RECORDS = "records.json"
SHOWN = 10
"""Rows with different answers that are printed."""


@command()
@click.argument("model")
@click.argument("one", metavar="A")
@click.argument("other", metavar="B")
@click.option("--no-answers", is_flag=True, help="Compare what is recorded; run neither version.")
@json_option()
def diff(model: str, one: str, other: str, no_answers: bool, as_json: bool) -> None:
    """Show how versions A and B of MODEL differ: columns, metrics, parameters, sources, environment, answers.

    A and B are numbers of versions or aliases. Both versions answer the golden rows of both, in a
    process apart, for which this environment must be able to serve them.

    \b
    Examples:
      scoreline diff pima 2 3
      scoreline diff pima production candidate
      scoreline diff pima 2 3 --no-answers --json
    """
    store = Store.from_environment()
    a, b = (store.verified(*resolve(store, f"{model}@{each}")).manifest for each in (one, other))
    differences = compare(a, b)
    answers = {} if no_answers else compare_answers(store, a, b)
    names = [f"{manifest.model}@{manifest.version}" for manifest in (a, b)]
    if as_json:
        print_json({"a": names[0], "b": names[1], "differences": differences, **answers})
        return
    for title, rows in differences.items():
        if rows:
            print_table(
                title,
                ("what", *names),
                ((name, *in_pair(*pair)) for name, pair in rows.items()),
            )
        elif title == "metrics" and not a.metrics:
            say(f"{title}: neither version has any; publish(…, metrics=…) records them")
        elif title == "parameters" and (silent := [it for it in (a, b) if not _parameters(it)]):
            without = " and ".join(f"{it.model}@{it.version}" for it in silent)
            say(f"{title}: not compared, since none of the steps' are recorded in {without}")
        else:
            say(f"{title}: no difference")
    for line in sentences(answers):
        say(line, in_line=True)
    if answers.get("rows"):
        print_table(
            "golden rows with other answers",
            ("record", *names),
            (
                (in_short(row["record"]), *in_pair(row["a"], row["b"]))
                for row in answers["rows"][:SHOWN]
            ),
        )


def compare(one: Manifest, other: Manifest) -> dict[str, dict[str, list[Any]]]:
    """What two manifests say differently: by kind and name, the values of both; None where one has none."""
    columns = [{each.name: each.encode() for each in it.schema.columns} for it in (one, other)]
    described = [
        {
            f"{name}: {key}": value
            for name, values in it.items()
            for key, value in values.items()
            if key != "name"
        }
        for it in columns
    ]
    if set(columns[0]) == set(columns[1]) and list(columns[0]) != list(columns[1]):
        for place, it in enumerate(columns):
            described[place]["order"] = ", ".join(it)
    files = [
        {
            name.removeprefix(SOURCES): entry.sha256[:16]
            for name, entry in it.files.items()
            if name.startswith(SOURCES)
        }
        for it in (one, other)
    ]
    return {
        "columns": _differing(*described),
        "outputs": _differing(asdict(one.outputs), asdict(other.outputs)),
        "metrics": _differing(one.metrics, other.metrics),
        "training": _differing(
            *({k: v for k, v in it.training.items() if k != STEP_PARAMETERS} for it in (one, other))
        ),
        "parameters": _differing(*map(_parameters, (one, other)))
        if _parameters(one) and _parameters(other)
        else {},
        "sources": _differing(*files),
        "environment": _differing(one.imports | one.libraries, other.imports | other.libraries),
    }


def _parameters(manifest: Manifest) -> dict[str, Any]:
    """The parameters of the pipeline's steps, as text by name; none in what an earlier release published."""
    found = manifest.training.get(STEP_PARAMETERS)
    return found if isinstance(found, dict) else {}


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {
        name: [one.get(name), other.get(name)]
        for name in dict.fromkeys([*one, *other])
        if one.get(name) != other.get(name)
    }


def compare_answers(store: Store, one: Manifest, other: Manifest) -> dict[str, Any]:
    """How two versions answer the golden rows of both.

    Returns `asked`, the records that both can take; `not_taken`, how many only one of them can; and `rows`, the
    records with different answers. Or `why_not`.
    """
    pair = (one, other)
    files = [store.read_all(manifest) for manifest in pair]
    rows = [row for each in files for row in golden.decode(each[GOLDEN])]
    # The same rows are often golden in both.
    records = list({json.dumps(row.record, sort_keys=True): row.record for row in rows}.values())
    given = []
    for manifest, its_files in zip(pair, files, strict=True):
        reference = f"{manifest.model}@{manifest.version}"
        try:
            environment.check(manifest)
            with clean_room.staged(manifest, its_files) as folder:
                (folder / _RECORDS).write_text(json.dumps(records))
                given.append(clean_room.run_in_clean_room(f"{__name__}:answer", folder, LIMIT_S))
        except (ArtifactError, clean_room.CleanRoomFailed) as error:
            return {"why_not": f"{reference} cannot answer here: {error}"}
        if "why_not" in given[-1]:
            return {"why_not": f"{reference} cannot answer here: {given[-1]['why_not']}"}
    tolerance = max(one.tolerance, other.tolerance)
    asked, not_taken, differing = 0, 0, []
    for record, *answers in zip(records, *(it["answers"] for it in given), strict=True):
        if None in answers:
            not_taken += 1
            continue
        asked += 1
        first, second = (golden.GoldenRow({}, *answer) for answer in answers)
        if not golden.same_answer(first, second, tolerance):
            differing.append({"record": record, "a": answers[0], "b": answers[1]})
    return {"asked": asked, "not_taken": not_taken, "rows": differing}


def answer(folder: Path) -> dict[str, Any]:
    """In the clean room: the answers of the artifact in a folder, as value and probabilities; None for a record that
    it does not take."""
    artifact = folder / clean_room.ARTIFACT
    manifest = Manifest.decode((artifact / MANIFEST).read_bytes())
    records: Sequence[dict[str, Any]] = json.loads((folder / _RECORDS).read_text())
    try:
        loaded = assemble(manifest, lambda name: (artifact / name).read_bytes())
        answers: list[list[Any] | None] = []
        for record in records:
            # One by one, as most callers ask.
            checked = frame_of_records([record], loaded.schema)
            if checked.problems:
                answers.append(None)
                continue
            scores = loaded.score(checked.frame)
            (row,) = golden.rows_of([record], scores.values, scores.probabilities)
            answers.append([row.value, row.probabilities])
    # Loading and scoring run the artifact's code: whatever it raises is why it cannot answer.
    except Exception as error:  # noqa: BLE001
        return {"why_not": f"{type(error).__name__}: {error}"}
    return {"answers": answers}


def sentences(answers: Mapping[str, Any]) -> Iterator[str]:
    """What `compare_answers` has found, in words."""
    if "why_not" in answers:
        yield f"answers are not compared: {answers['why_not']}"
    elif answers:
        rows = answers["rows"]
        are = "is" if len(rows) == 1 else "are"
        text = f"answers: {len(rows)} of {answers['asked']} golden rows {are} answered differently"
        # Probabilities differ after each fit; what a caller decides by is often the label.
        if any(probabilities for row in rows for _, probabilities in (row["a"], row["b"])):
            text += f", {sum(row['a'][0] != row['b'][0] for row in rows)} with another class"
        yield text
        if left := answers["not_taken"]:
            which = "1 golden row is a record" if left == 1 else f"{left} golden rows are records"
            yield f"{which} for one of them only"
