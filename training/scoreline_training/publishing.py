"""publish(): from a fitted pipeline to an artifact that is proven to answer as it did in training."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import redis
from redis.exceptions import RedisError

from scoreline_artifacts import (
    Manifest,
    Outputs,
    Release,
    Schema,
    Store,
    UnsuitableData,
    golden,
    pickling,
    releases,
)
from scoreline_artifacts.loading import LoadedVersion, load
from scoreline_artifacts.manifest import GOLDEN, PIPELINE
from scoreline_artifacts.records import frame_of_records
from scoreline_artifacts.store import check_name, describe_file
from scoreline_client.fleet import announce_release
from scoreline_client.keys import Keys
from scoreline_client.settings import ClientSettings

LIBRARIES = ("dill", "joblib", "numpy", "pandas", "scikit-learn", "scipy", "sklearn-pandas")
PROVEN_ROWS = 100_000
"""Training rows on which predict is compared with the largest probability."""
TOLERANCE = 1e-9

promote_by_default: ContextVar[bool] = ContextVar("promote_by_default", default=False)
"""Whether publish() promotes when its caller does not say; `scoreline train --promote` sets it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedVersion:
    """What was published, and where."""

    name: str
    version: int
    path: Path
    manifest: Manifest
    release: Release | None = None
    """The release that points at it, or None."""
    announced: bool = False
    """Whether the news reached Redis; if not, workers find out by themselves within seconds."""


def publish(
    pipeline: Any,
    name: str,
    X_train: pd.DataFrame,  # noqa: N803 - scikit-learn's own name for it
    y_train: Any = None,
    *,
    promote: bool | None = None,
    alias: str = releases.PRODUCTION,
    metrics: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    store: Store | None = None,
) -> PublishedVersion:
    """Publish a fitted pipeline as the next version of a model, and release it if asked to.

    `X_train` is the frame of raw records that the pipeline was fitted on, (rows, columns): the schema
    and the golden rows come from it. `y_train` is (rows,) and only its length is recorded. `metrics`
    and `training` are kept in the manifest. Nothing appears in the store unless the pipeline, read
    back from its bytes, gives the same answers as it does here.

    Raises:
        UnsuitableData: the frame cannot be described, or the pipeline does not survive pickling or
            cannot score records that are given by name.
        GoldenMismatch: read back, the pipeline answers otherwise.
        InvalidName: the name cannot be that of a model.
    """
    check_name(name)
    store = store or Store.from_environment()
    schema = Schema.infer(_checked_frame(X_train))
    here = replace(LoadedVersion.of(pipeline, name, schema=schema))
    rows = _golden_rows(here, X_train)
    files = {PIPELINE: _pickled(pipeline), GOLDEN: golden.encode(rows)}
    proven = replace(
        here,
        pipeline=pickling.restore(files[PIPELINE]),
        outputs=_outputs(here, X_train),
        batchable=_is_batchable(here, rows),
    )
    golden.check(proven, rows, TOLERANCE)

    def make_manifest(version: int) -> Manifest:
        return Manifest(
            model=name,
            version=version,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            files={file: describe_file(data) for file, data in files.items()},
            schema=schema,
            outputs=proven.outputs,
            batchable=proven.batchable,
            tolerance=TOLERANCE,
            libraries=_libraries(),
            metrics=dict(metrics or {}),
            training={
                "rows": len(X_train),
                "labels": None if y_train is None else len(y_train),
                "pipeline": type(pipeline).__name__,
                **(training or {}),
            },
        )

    manifest = store.publish(name, files, make_manifest)
    published = PublishedVersion(
        name=name,
        version=manifest.version,
        path=store.path(name, manifest.version),
        manifest=manifest,
    )
    wanted = promote_by_default.get() if promote is None else promote
    return _release(store, published, alias) if wanted else published


def _release(store: Store, published: PublishedVersion, alias: str) -> PublishedVersion:
    load(store, published.name, published.version)
    release = releases.promote(store, published.name, published.version, alias)
    return replace(published, release=release, announced=announce(published.name))


def announce(model: str) -> bool:
    """Tell the workers to look at a model's releases; False if Redis cannot be reached."""
    settings = ClientSettings.from_environment()
    try:
        with redis.Redis.from_url(settings.redis_url, socket_connect_timeout=2) as connection:
            announce_release(connection, Keys(settings.queue), model)
    except RedisError:
        return False
    return True


def _checked_frame(frame: Any) -> pd.DataFrame:
    if not isinstance(frame, pd.DataFrame):
        raise UnsuitableData(
            f"X_train is {type(frame).__name__}; give the pandas DataFrame of raw records that the "
            "pipeline was fitted on: callers give records by column name"
        )
    if len(frame) == 0:
        raise UnsuitableData("X_train has no rows")
    return frame


def _pickled(pipeline: Any) -> bytes:
    try:
        return pickling.dump(pipeline)
    # Whatever an object's own pickling raises; the caller needs to know which object it was.
    except Exception as error:
        raise UnsuitableData(
            f"the pipeline cannot be serialised: {type(error).__name__}: {error}. Look for an open "
            "file, a lock, a connection or a generator among its attributes."
        ) from error


def _golden_rows(here: LoadedVersion, frame: pd.DataFrame) -> list[golden.GoldenRow]:
    """Raw records spread evenly over the training rows, with the answers given here."""
    places = np.linspace(0, len(frame) - 1, min(golden.GOLDEN_ROWS, len(frame))).astype(int)
    records = [_raw(record) for record in frame.iloc[places].to_dict("records")]
    checked = frame_of_records(records, here.schema)
    if checked.problems:
        raise UnsuitableData(f"a training row is no valid record: {checked.problems[0].message}")
    try:
        return golden.rows_of(records, here.score(checked.frame))
    # Whatever the pipeline raises: it cannot score what it was trained on.
    except Exception as error:
        raise UnsuitableData(
            f"the pipeline cannot score rows of X_train: {type(error).__name__}: {error}. Is it "
            "fitted, and is X_train the raw frame that it was fitted on?"
        ) from error


def _raw(record: dict[Any, Any]) -> dict[str, Any]:
    """A row as a JSON caller would send it."""
    return {str(name): _plain(value) for name, value in record.items()}


def _plain(value: Any) -> Any:
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return None
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    return value.item() if isinstance(value, np.generic) else value


def _is_batchable(here: LoadedVersion, rows: list[golden.GoldenRow]) -> bool:
    """Whether records get the same answers alone, in company, and in another order."""
    records = [row.record for row in rows]
    shuffled = np.random.default_rng(0).permutation(len(rows)).tolist()
    try:
        alone = [here.score_records([record])[0] for record in records]
        mixed = here.score_records([records[place] for place in shuffled])
    # A pipeline that fails on some company, or on none, depends on it.
    except Exception:  # noqa: BLE001
        return False
    pairs = [*zip(rows, alone, strict=True)]
    pairs += [(rows[place], found) for place, found in zip(shuffled, mixed, strict=True)]
    return all(
        golden.equal(want.value, got.value, TOLERANCE)
        and golden.equal(want.probabilities, got.probabilities, TOLERANCE)
        for want, got in pairs
    )


def _outputs(here: LoadedVersion, frame: pd.DataFrame) -> Outputs:
    """Find out whether one call, for probabilities, can serve for the value too."""
    if here.outputs.classes is None:
        return here.outputs
    sample = frame.iloc[:PROVEN_ROWS]
    scores = here.score(sample)
    if scores.probabilities is None:
        return here.outputs
    likeliest: npt.NDArray[Any] = np.asarray(here.outputs.classes)[
        scores.probabilities.argmax(axis=1)
    ]
    same = bool((likeliest == scores.values).all())
    return replace(here.outputs, value_from="probabilities" if same else "predict")


def _libraries() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue  # not part of this training's environment
    return versions
