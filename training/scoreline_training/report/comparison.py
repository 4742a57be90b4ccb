"""The new version beside the one in production, on the same rows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from scoreline_artifacts import ArtifactError, Schema, Store, releases
from scoreline_artifacts.loading import LoadedVersion, load
from scoreline_training.report.answers import Answers, Array, ask
from scoreline_training.report.data import Incumbent, NotMeasurable
from scoreline_training.report.measures import Measure, measure
from scoreline_training.report.rows import Rows

TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What both versions say about the same rows."""

    reference: str
    answers: Answers
    """Those of the version in production."""
    measures: list[Measure]
    agreement: float
    """Share of rows with the same answer, numbers up to the tolerance."""
    mended: int | None
    """Rows that only the new version gets right; None without labels, or for numbers."""
    broken: int | None
    """Rows that only the version in production gets right."""


def incumbent(store: Store, model: str, alias: str = releases.PRODUCTION) -> Incumbent:
    """Bring the version in production into memory, or say why that is not to be had."""
    try:
        release = releases.current(store, model, alias)
    except (ArtifactError, OSError) as error:
        return Incumbent(why_not=f"The releases of {model}@{alias} cannot be read: {error}")
    if release is None:
        return Incumbent(why_not=f"Nothing has been released as {model}@{alias} yet.")
    reference = f"{model}@{release.version}"
    found = Incumbent(reference=reference, released_at=release.created_at)
    try:
        return replace(found, loaded=load(store, model, release.version))
    # Unpickling runs code of the artifact and of installed libraries: whatever it raises, a version
    # that cannot be loaded is a fact to be told and must not hold up its successor.
    except Exception as error:  # noqa: BLE001
        reason = f"{reference} cannot be loaded here: {type(error).__name__}: {error}"
        return replace(found, why_not=reason)


def compare(production: Incumbent, answers: Answers, rows: Rows) -> Comparison:
    """Let the version in production score the rows that the new one has scored.

    Raises:
        NotMeasurable: it cannot, or its answers are of another kind; says why.
    """
    if production.loaded is None or production.reference is None:
        raise NotMeasurable(production.why_not or "There is no version in production.")
    found = _asked(production.loaded, production.reference, rows)
    _check_alike(production.reference, answers, found)
    mended, broken = _swapped(answers, found, rows.truth)
    return Comparison(
        reference=production.reference,
        answers=found,
        measures=_measures(rows.truth, found),
        agreement=float(same_answers(answers.values, found.values).mean()),
        mended=mended,
        broken=broken,
    )


def _asked(version: LoadedVersion, reference: str, rows: Rows) -> Answers:
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


def _check_alike(reference: str, answers: Answers, found: Answers) -> None:
    if answers.kind is not found.kind:
        raise NotMeasurable(
            f"{reference} is a {found.kind} and this is a {answers.kind}: their answers are not of one "
            "kind."
        )
    if answers.values.shape != found.values.shape:
        raise NotMeasurable(
            f"{reference} gives answers of shape {found.values.shape}, this {answers.values.shape}."
        )


def same_answers(one: Array, other: Array) -> npt.NDArray[np.bool_]:
    """Row by row whether answers are the same."""
    same: npt.NDArray[np.bool_]
    if one.dtype.kind in "fiu" and other.dtype.kind in "fiu":
        same = np.isclose(
            one.astype(float), other.astype(float), TOLERANCE, TOLERANCE, equal_nan=True
        )
    else:
        same = np.asarray(one.astype(object) == other.astype(object), dtype=bool)
    return same if same.ndim == 1 else np.asarray(same.all(axis=1))


def _swapped(one: Answers, other: Answers, truth: Array | None) -> tuple[int | None, int | None]:
    if truth is None or not one.kind.is_classifier or truth.shape != one.values.shape:
        return None, None
    right, was_right = same_answers(one.values, truth), same_answers(other.values, truth)
    return int((right & ~was_right).sum()), int((was_right & ~right).sum())


def _measures(truth: Array | None, answers: Answers) -> list[Measure]:
    if truth is None:
        return []
    try:
        return measure(truth, answers)
    except NotMeasurable:
        return []
