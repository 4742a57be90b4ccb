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
MAX_ROWS_SHOWN = 10
"""Rows with different answers that are printed at most."""


@command()
@click.argument("model")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option("--no-answers", is_flag=True, help="Compare what is recorded; run neither version.")
@json_option()
def diff(model: str, first: str, second: str, no_answers: bool, as_json: bool) -> None:
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
    manifests = [
        store.verified(*resolve(store, f"{model}@{version}")).manifest
        for version in (first, second)
    ]
    a, b = manifests
    differences = compare(a, b)
    answers = {} if no_answers else compare_answers(store, a, b)
    names = [f"{manifest.model}@{manifest.version}" for manifest in manifests]
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
        elif title == "parameters" and not all(map(_parameters, manifests)):
            without = " and ".join(
                name
                for name, manifest in zip(names, manifests, strict=True)
                if not _parameters(manifest)
            )
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
                for row in answers["rows"][:MAX_ROWS_SHOWN]
            ),
        )


def compare(first: Manifest, second: Manifest) -> dict[str, dict[str, list[Any]]]:
    """The differences of two manifests: by kind and name, the values of both; None where one has none."""
    pair = (first, second)
    columns = [
        {column.name: column.encode() for column in manifest.schema.columns} for manifest in pair
    ]
    properties = [
        {
            f"{name}: {key}": value
            for name, values in by_name.items()
            for key, value in values.items()
            if key != "name"
        }
        for by_name in columns
    ]
    if set(columns[0]) == set(columns[1]) and list(columns[0]) != list(columns[1]):
        for values, names in zip(properties, columns, strict=True):
            values["order"] = ", ".join(names)
    files = [
        {
            name.removeprefix(SOURCES): entry.sha256[:16]
            for name, entry in manifest.files.items()
            if name.startswith(SOURCES)
        }
        for manifest in pair
    ]
    training = [
        {name: value for name, value in manifest.training.items() if name != STEP_PARAMETERS}
        for manifest in pair
    ]
    parameters = [_parameters(manifest) for manifest in pair]
    return {
        "columns": _differing(*properties),
        "outputs": _differing(asdict(first.outputs), asdict(second.outputs)),
        "metrics": _differing(first.metrics, second.metrics),
        "training": _differing(*training),
        "parameters": _differing(*parameters) if all(parameters) else {},
        "sources": _differing(*files),
        "environment": _differing(*(manifest.imports | manifest.libraries for manifest in pair)),
    }


def _parameters(manifest: Manifest) -> dict[str, Any]:
    """The parameters of the pipeline's steps, as text by name; none in what an earlier release published."""
    parameters = manifest.training.get(STEP_PARAMETERS)
    return parameters if isinstance(parameters, dict) else {}


def _differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {
        name: [first.get(name), second.get(name)]
        for name in dict.fromkeys([*first, *second])
        if first.get(name) != second.get(name)
    }


def compare_answers(store: Store, first: Manifest, second: Manifest) -> dict[str, Any]:
    """How two versions answer the golden rows of both.

    Returns `asked`, the records that both can take; `not_taken`, how many only one of them can; and `rows`, the
    records with different answers. Or `why_not`.
    """
    pair = (first, second)
    files = [store.read_all(manifest) for manifest in pair]
    rows = [row for contents in files for row in golden.decode(contents[GOLDEN])]
    # The same rows are often golden in both.
    records = list({json.dumps(row.record, sort_keys=True): row.record for row in rows}.values())
    results = []
    for manifest, contents in zip(pair, files, strict=True):
        reference = f"{manifest.model}@{manifest.version}"
        try:
            environment.check(manifest)
            with clean_room.staged(manifest, contents) as folder:
                (folder / _RECORDS).write_text(json.dumps(records))
                results.append(clean_room.run_in_clean_room(f"{__name__}:answer", folder, LIMIT_S))
        except (ArtifactError, clean_room.CleanRoomFailed) as error:
            return {"why_not": f"{reference} cannot answer here: {error}"}
        if "why_not" in results[-1]:
            return {"why_not": f"{reference} cannot answer here: {results[-1]['why_not']}"}
    tolerance = max(first.tolerance, second.tolerance)
    compared, not_taken, differing = 0, 0, []
    for record, *answers in zip(records, *(result["answers"] for result in results), strict=True):
        if None in answers:
            not_taken += 1
            continue
        compared += 1
        a, b = (golden.GoldenRow({}, *answer) for answer in answers)
        if not golden.same_answer(a, b, tolerance):
            differing.append({"record": record, "a": answers[0], "b": answers[1]})
    return {"asked": compared, "not_taken": not_taken, "rows": differing}


def answer(folder: Path) -> dict[str, Any]:
    """Runs in the clean room: the answers of the artifact in a folder, as value and probabilities; None for a record
    that it does not take."""
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
    """The result of `compare_answers` in words."""
    if "why_not" in answers:
        yield f"answers are not compared: {answers['why_not']}"
    elif answers:
        rows = answers["rows"]
        verb = "is" if len(rows) == 1 else "are"
        text = f"answers: {len(rows)} of {answers['asked']} golden rows {verb} answered differently"
        # Probabilities differ after each fit; what a caller decides by is often the label.
        if any(probabilities for row in rows for _, probabilities in (row["a"], row["b"])):
            text += f", {sum(row['a'][0] != row['b'][0] for row in rows)} with another class"
        yield text
        if count := answers["not_taken"]:
            subject = (
                "1 golden row is a record" if count == 1 else f"{count} golden rows are records"
            )
            yield f"{subject} for one of them only"
