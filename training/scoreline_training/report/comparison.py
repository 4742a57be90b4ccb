"""The version in production beside a new one: what both answer for the same rows.

The version in production is asked in the clean room: what it does while it is loaded must not harm the
process that publishes its successor, and its modules need not be those of this project any more. It runs there with
the rights of who publishes, so only what this machine's own key has signed is asked, unless somebody says otherwise.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scoreline_artifacts import ArtifactError, Manifest, Store, environment, golden
from scoreline_artifacts.loading.artifact import assemble
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_artifacts.manifest import GOLDEN, MANIFEST
from scoreline_artifacts.packaging import clean_room
from scoreline_artifacts.store import releases
from scoreline_client.protocol.names import PRODUCTION
from scoreline_training.report.metrics import Answers, Array, Kind, NotMeasurable, Rows, ask

LIMIT_S = 60.0
"""Seconds that an interpreter may take to start, load the version and score the measured rows."""
TOLERANCE = 1e-9
_ROWS = "rows.pickle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Incumbent:
    """The version in production while a new one is published, such as `pima@3`, if there is one."""

    reference: str | None = None
    released_at: str = ""
    """ISO 8601, UTC."""
    ask: Callable[[Rows], Answers] | None = None
    """Scores rows; raises NotMeasurable if it cannot."""
    why_not: str = ""
    """Why there is no `ask`, as a sentence."""


def incumbent(
    store: Store, model: str, alias: str = PRODUCTION, *, compare: bool | None = None
) -> Incumbent:
    """Find the version in production, or the reason why none can be asked.

    `compare` lets a version answer whoever signed it, or none at all; None: one that was signed here.
    """
    current = Incumbent(why_not=f"Nothing has been released as {model}@{alias} yet.")
    try:
        release = releases.current(store, model, alias)
        if release is None:
            return current
        reference = f"{model}@{release.version}"
        current = Incumbent(reference=reference, released_at=release.created_at)
        verified = store.verified(model, release.version, release.manifest_sha256 or None)
        manifest = verified.manifest
        if compare is False:
            return replace(current, why_not=f"{reference} was not asked, as publish() was told.")
        if compare is None and verified.key != store.ring.own_fingerprint():
            reason = (
                f"{reference} is signed by another's key ({verified.key[:8]}), and would run here with the rights of "
                "who publishes; publish(compare=True) lets it."
            )
            return replace(current, why_not=reason)
        environment.check(manifest)
        return replace(current, ask=partial(ask_apart, manifest, store.read_all(manifest)))
    except (ArtifactError, OSError) as error:
        subject = f"{current.reference or f'The release of {model}@{alias}'} cannot be loaded here"
        return replace(current, why_not=f"{subject}: {type(error).__name__}: {error}")


def ask_apart(manifest: Manifest, files: dict[str, bytes], rows: Rows) -> Answers:
    """Let a version score rows in the clean room.

    Raises:
        NotMeasurable: it cannot be loaded there, or not score these rows.
    """
    with clean_room.staged(manifest, files) as folder:
        (folder / _ROWS).write_bytes(pickle.dumps(rows))
        try:
            payload = clean_room.run_in_clean_room(f"{__name__}:answer", folder, LIMIT_S)
        except clean_room.CleanRoomFailed as end:
            reference = f"{manifest.model}@{manifest.version}"
            raise NotMeasurable(f"{reference} cannot be loaded here: {end.message}") from end
    if "not_measurable" in payload:
        raise NotMeasurable(payload["not_measurable"])
    arrays = {
        name: payload[name] and np.asarray(payload[name]) for name in ("probabilities", "scores")
    }
    values, kind = np.asarray(payload["values"]), Kind(payload["kind"])
    return Answers(kind=kind, values=values, classes=payload["classes"], **arrays)


def answer(folder: Path) -> dict[str, Any]:
    """In the clean room: load the artifact in a folder and score the rows there; Answers' fields."""
    staged = folder / clean_room.ARTIFACT
    manifest = Manifest.decode((staged / MANIFEST).read_bytes())
    reference = f"{manifest.model}@{manifest.version}"
    # Written a moment ago by the process that waits for the answer.
    rows = pickle.loads((folder / _ROWS).read_bytes())  # noqa: S301
    try:
        loaded = assemble(manifest, lambda name: (staged / name).read_bytes())
        loaded.check_golden_rows(golden.decode((staged / GOLDEN).read_bytes()), manifest.tolerance)
        fields = asdict(ask_here(loaded, reference, rows))
    except NotMeasurable as error:
        return {"not_measurable": str(error)}
    # Unpickling runs code of the artifact: whatever it raises becomes a sentence in the report.
    except Exception as error:  # noqa: BLE001
        reason = f"{reference} cannot be loaded here: {type(error).__name__}: {error}"
        return {"not_measurable": reason}
    return {
        key: value.tolist() if isinstance(value, np.ndarray) else value
        for key, value in fields.items()
    }


def ask_here(version: LoadedVersion, reference: str, rows: Rows) -> Answers:
    """Let a version in this process's memory score rows, with the columns and types of its schema.

    Raises:
        NotMeasurable: columns are missing or of other types, or the pipeline fails on the rows.
    """
    frame, columns = rows.frame, version.schema.columns if version.schema else ()
    types: dict[str, Any] = {
        column.name: pd.CategoricalDtype(column.categories, column.ordered)
        if column.categories
        else column.dtype
        for column in columns
    }
    try:
        return ask(version, frame[list(types)].astype(types) if types else frame, rows.truth)
    # Whatever pandas or the pipeline raises on rows that the version was not made for.
    except Exception as error:
        reason = f"{reference} cannot score these rows: {type(error).__name__}: {error}"
        raise NotMeasurable(reason) from error


def compare(production: Incumbent, answers: Answers, rows: Rows) -> Answers:
    """Let the version in production score the rows that the new one has scored.

    Raises:
        NotMeasurable: it cannot, or its answers are of another kind.
    """
    if production.ask is None:
        raise NotMeasurable(production.why_not or "There is no version in production.")
    before = production.ask(rows)
    if (answers.kind, answers.values.shape) != (before.kind, before.values.shape):
        raise NotMeasurable(
            f"{production.reference} is a {before.kind} and this is a {answers.kind}, or its answers "
            "are of another shape: they cannot be compared."
        )
    return before


def same_answers(first: Array, second: Array) -> Array:
    """(rows,) Whether answers are the same, numbers up to the tolerance."""
    same: Array = np.asarray(first.astype(object) == second.astype(object), dtype=bool)
    if first.dtype.kind in "fiu" and second.dtype.kind in "fiu":
        pair = first.astype(float), second.astype(float)
        same = np.isclose(*pair, TOLERANCE, TOLERANCE, equal_nan=True)
    return np.asarray(same.reshape(len(same), -1).all(axis=1))
