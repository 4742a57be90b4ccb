"""The version in production while a new one is published: what it says about the same rows.

It is asked in the clean room. What it does while it is loaded must not harm the one that publishes its
successor, and its modules need not be those of this project any more.
"""

from __future__ import annotations

import pickle
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scoreline_artifacts import ArtifactError, Manifest, Schema, Store, environment, golden
from scoreline_artifacts.loading.version import LoadedVersion, assemble
from scoreline_artifacts.manifest import GOLDEN, MANIFEST
from scoreline_artifacts.packaging import clean_room
from scoreline_artifacts.store import releases
from scoreline_client.protocol.names import PRODUCTION
from scoreline_training.report.answers import Answers, Kind, ask
from scoreline_training.report.data import Incumbent, NotMeasurable
from scoreline_training.report.rows import Rows

LIMIT_S = 20.0
"""Seconds that loading it and scoring the measured rows may take."""
_ROWS = "rows.pickle"


def incumbent(store: Store, model: str, alias: str = PRODUCTION) -> Incumbent:
    """Find the version in production, or say why there is none that could be asked."""
    try:
        release = releases.current(store, model, alias)
    except (ArtifactError, OSError) as error:
        return Incumbent(why_not=f"The releases of {model}@{alias} cannot be read: {error}")
    if release is None:
        return Incumbent(why_not=f"Nothing has been released as {model}@{alias} yet.")
    reference = f"{model}@{release.version}"
    found = Incumbent(reference=reference, released_at=release.created_at)
    try:
        manifest = store.manifest(model, release.version)
        environment.check(manifest)
        files = store.read_all(manifest)
    except (ArtifactError, OSError) as error:
        reason = f"{reference} cannot be loaded here: {type(error).__name__}: {error}"
        return replace(found, why_not=reason)
    return replace(found, ask=partial(ask_apart, manifest, files))


def ask_apart(manifest: Manifest, files: dict[str, bytes], rows: Rows) -> Answers:
    """What a version says about rows, in the clean room.

    Raises:
        NotMeasurable: it cannot be loaded there, or not be asked about these rows; says why.
    """
    reference = f"{manifest.model}@{manifest.version}"
    with clean_room.staged(manifest, files) as folder:
        (folder / _ROWS).write_bytes(pickle.dumps(rows))
        try:
            said = clean_room.run_in_clean_room(f"{__name__}:answer", folder, LIMIT_S)
        except clean_room.CleanRoomFailed as end:
            raise NotMeasurable(f"{reference} cannot be loaded here: {end.message}") from end
    if "not_measurable" in said:
        raise NotMeasurable(said["not_measurable"])
    return _from_json(said)


def _from_json(said: dict[str, Any]) -> Answers:
    arrays = {
        name: None if said[name] is None else np.asarray(said[name])
        for name in ("values", "probabilities", "scores")
    }
    return Answers(kind=Kind(said["kind"]), classes=said["classes"], **arrays)  # type: ignore[arg-type]


# In the room


def answer(folder: Path) -> dict[str, Any]:
    """Load the artifact in a folder and let it answer the rows there; the fields of `Answers`."""
    staged = folder / clean_room.ARTIFACT
    manifest = Manifest.decode((staged / MANIFEST).read_bytes())
    reference = f"{manifest.model}@{manifest.version}"
    # Written a moment ago by the process that waits for the answer.
    rows = pickle.loads((folder / _ROWS).read_bytes())  # noqa: S301
    try:
        loaded = assemble(manifest, lambda name: (staged / name).read_bytes())
        loaded.check_golden_rows(golden.decode((staged / GOLDEN).read_bytes()), manifest.tolerance)
        found = ask_here(loaded, reference, rows)
    except NotMeasurable as error:
        return {"not_measurable": str(error)}
    # Unpickling runs code of the artifact and of installed libraries: whatever it raises, a version
    # that cannot be loaded is a fact to be told and must not hold up its successor.
    except Exception as error:  # noqa: BLE001
        reason = f"{reference} cannot be loaded here: {type(error).__name__}: {error}"
        return {"not_measurable": reason}
    fields = asdict(found)
    return {
        name: one.tolist() if isinstance(one, np.ndarray) else one for name, one in fields.items()
    }


def ask_here(version: LoadedVersion, reference: str, rows: Rows) -> Answers:
    """What a version in this process's memory says about rows.

    Raises:
        NotMeasurable: it cannot be asked about them; says why.
    """
    frame = (
        rows.frame if version.schema is None else as_schema(rows.frame, version.schema, reference)
    )
    try:
        return ask(version, frame, rows.truth)
    # Whatever the pipeline raises on rows that it was not made for.
    except Exception as error:
        raise NotMeasurable(
            f"{reference} fails on these rows: {type(error).__name__}: {error}"
        ) from error


def as_schema(frame: pd.DataFrame, schema: Schema, reference: str) -> pd.DataFrame:
    """The columns that a version was trained with, of the types that they had.

    Raises:
        NotMeasurable: one is missing, or its values cannot be of that type.
    """
    missing = [name for name in schema.names if name not in frame.columns]
    if missing:
        names = ", ".join(missing[:5]) + (" …" if len(missing) > 5 else "")
        raise NotMeasurable(f"{reference} needs columns that these rows do not have: {names}.")
    columns = {}
    for column in schema.columns:
        series = frame[column.name]
        dtype = (
            pd.CategoricalDtype(column.categories, column.ordered)
            if column.dtype == "category"
            else column.dtype
        )
        try:
            columns[column.name] = series if series.dtype == dtype else series.astype(dtype)
        except (TypeError, ValueError) as error:
            raise NotMeasurable(
                f"{reference} needs {column.name} as {column.dtype}; here it is {series.dtype}: {error}"
            ) from error
    return pd.DataFrame(columns, index=frame.index)
