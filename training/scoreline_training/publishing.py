"""publish(): from a fitted pipeline to an artifact that is proven to answer as it did in training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from scoreline_artifacts import (
    ArtifactError,
    Manifest,
    NotReleased,
    Outputs,
    Release,
    Schema,
    Store,
    UnsuitableData,
    golden,
)
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_artifacts.manifest import PIPELINE, REPORT
from scoreline_artifacts.store import releases
from scoreline_artifacts.store.storage import check_alias, check_name
from scoreline_artifacts.validation import frame_of_records, shown
from scoreline_client.fleet import announce_release
from scoreline_client.protocol.keys import Keys
from scoreline_client.protocol.names import PRODUCTION
from scoreline_client.settings import ClientSettings
from scoreline_training.packing import pack

PROVEN_ROWS = 100_000
"""Training rows on which predict is compared with the largest probability."""
TOLERANCE = 1e-9
NEWS_TIMEOUT_S = 2
"""How long Redis may take to hear of a release; workers find out by themselves anyway."""

promote_by_default: ContextVar[bool] = ContextVar("promote_by_default", default=False)
"""Whether publish() promotes when its caller does not say; `scoreline train --promote` sets it."""

published_by_script: ContextVar[list[PublishedVersion] | None] = ContextVar(
    "published_by_script", default=None
)
"""Where publish() notes what it published, for `scoreline train SCRIPT` to tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedVersion:
    """What was published, and where."""

    name: str
    version: int
    path: Path | str
    """Where it is: a folder, or a URL."""
    manifest: Manifest
    release: Release | None = None
    """The release that points at it, or None."""
    announced: bool = False
    """Whether the news reached Redis; if not, workers find out by themselves within seconds."""

    @property
    def report(self) -> Path | str:
        """Where the training report is, an HTML file."""
        return self.path / REPORT if isinstance(self.path, Path) else f"{self.path}/{REPORT}"


def publish(
    pipeline: Any,
    name: str,
    X_train: pd.DataFrame,  # noqa: N803 - scikit-learn's own name for it
    y_train: Any = None,
    *,
    X_test: pd.DataFrame | None = None,  # noqa: N803
    y_test: Any = None,
    promote: bool | None = None,
    alias: str = PRODUCTION,
    metrics: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    code: Iterable[str | ModuleType] = (),
    store: Store | None = None,
) -> PublishedVersion:
    """Publish a fitted pipeline as the next version of a model, and release it if asked to.

    `X_train` is the frame of raw records that the pipeline was fitted on, (rows, columns): the schema
    and the golden rows come from it. `y_train` is (rows,) or (rows, outputs); only its length is
    recorded. `X_test` and `y_test` are rows that were held out, with the same columns: the report
    measures the pipeline on them, and on the training rows without them. `metrics` and `training` are
    kept in the manifest.

    What the pipeline needs of this project's own modules is found and travels along. `code` adds what
    cannot be found: modules or packages, also installed ones that the workers do not have, by name or
    as objects, and data files, as `package:path/below/it`.

    Nothing appears in the store unless the pipeline gives the same answers in a clean room, a fresh
    interpreter without this project, as it does here.

    Raises:
        UnsuitableData: a frame cannot be described, the labels are not as many as its rows, held-out
            rows have other columns, or the pipeline cannot be serialised, cannot score records
            that are given by name, or answers with something that cannot be sent.
        DoesNotTravel: the pipeline needs something that cannot come along, or answers otherwise in
            the clean room; the message says what, where, and what to do.
        InvalidName: the name cannot be that of a model, or the alias's cannot be one.
        SettingsError: a release is wanted, and a setting for Redis is unusable.
        NotReleased: a release is wanted, and the version is published but could not be released.
    """
    check_name(name)
    check_alias(alias)
    wanted = promote_by_default.get() if promote is None else promote
    # Read before anything is visible: a bad setting must not leave half of what was asked for.
    settings = ClientSettings.from_environment() if wanted else None
    store = store or Store.from_environment()
    schema = Schema.infer(_checked_frame(X_train))
    labels = _count_labels(y_train, X_train, "train")
    _check_held_out(X_test, y_test, X_train)
    here = LoadedVersion.of(pipeline, name, schema=schema)
    rows = _golden_rows(here, X_train)
    draft = Manifest(
        model=name,
        version=max(store.versions(name), default=0) + 1,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        files={},
        schema=schema,
        outputs=_outputs(here, X_train),
        tolerance=TOLERANCE,
        metrics=_remembered(metrics or {}),
        training={
            "rows": len(X_train),
            "labels": labels,
            "pipeline": type(pipeline).__name__,
            **_remembered(training or {}),
        },
    )
    packed = pack(pipeline, draft, golden.encode(rows), code)
    data = {"X_train": X_train, "y_train": y_train, "X_test": X_test, "y_test": y_test}
    packed = packed.with_file(REPORT, _report(store, here, packed.manifest, golden=rows, **data))

    manifest = store.publish(packed.manifest, packed.files)
    published = PublishedVersion(
        name=name,
        version=manifest.version,
        path=store.location(name, manifest.version),
        manifest=manifest,
    )
    if settings is not None:
        published = _release(store, published, alias, settings)
    if (told := published_by_script.get()) is not None:
        told.append(published)
    return published


def _report(store: Store, here: LoadedVersion, manifest: Manifest, **data: Any) -> bytes:
    """The training report; beside the version in production, if there is one."""
    # Jinja and what draws the plots are loaded by those who publish, not by all who import this.
    from scoreline_training import report

    return report.render(
        report.ReportData(
            version=replace(here, outputs=manifest.outputs, batchable=manifest.batchable),
            production=report.incumbent(store, manifest.model),
            created_at=manifest.created_at,
            metrics=manifest.metrics,
            training=manifest.training,
            libraries=manifest.libraries | manifest.imports,
            pipeline_sha256=manifest.files[PIPELINE].sha256,
            sources=sorted(manifest.sources),
            by_value=manifest.by_value,
            **data,
        )
    )


def _release(
    store: Store, published: PublishedVersion, alias: str, settings: ClientSettings
) -> PublishedVersion:
    # It reads back as it was proven; what it does when it is loaded is known from the clean room.
    try:
        store.manifest(published.name, published.version)
        release = releases.promote(store, published.name, published.version, alias)
    except ArtifactError as error:
        raise NotReleased(published.name, published.version, alias, error) from error
    return replace(published, release=release, announced=announce(published.name, settings))


def announce(model: str, settings: ClientSettings | None = None) -> bool:
    """Tell the workers to look at a model's releases; False if Redis cannot be reached."""
    settings = settings or ClientSettings.from_environment()
    try:
        with redis.Redis.from_url(
            settings.redis_url,
            socket_connect_timeout=NEWS_TIMEOUT_S,
            socket_timeout=NEWS_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        ) as connection:
            announce_release(connection, Keys(settings.queue), model)
    # The other two are about the URL: there is no Redis under it either.
    except (RedisError, ValueError, TypeError):
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


def _count_labels(labels: Any, frame: pd.DataFrame, part: str) -> int | None:
    if labels is None:
        return None
    if not hasattr(labels, "__len__") or len(labels) != len(frame):
        found = len(labels) if hasattr(labels, "__len__") else f"a {type(labels).__name__}"
        raise UnsuitableData(f"y_{part} has {found} labels for the {len(frame)} rows of X_{part}")
    return len(frame)


def _check_held_out(frame: Any, labels: Any, train: pd.DataFrame) -> None:
    if frame is None:
        if labels is not None:
            raise UnsuitableData("y_test has no rows to belong to; give X_test as well")
        return
    if not isinstance(frame, pd.DataFrame) or list(frame.columns) != list(train.columns):
        raise UnsuitableData(
            "X_test must be a DataFrame with the columns of X_train, in the same order: "
            f"{list(map(str, train.columns))[:20]}"
        )
    _count_labels(labels, frame, "test")


def _remembered(value: Any) -> Any:
    """A metric or parameter as JSON takes it: keys as text, numpy's values as Python's."""
    if isinstance(value, Mapping):
        return {str(key): _remembered(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_remembered(one) for one in value]
    if hasattr(value, "tolist"):
        return _remembered(value.tolist())
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _golden_rows(here: LoadedVersion, frame: pd.DataFrame) -> list[golden.GoldenRow]:
    """Raw records spread evenly over the training rows, with the answers given here."""
    places = np.linspace(0, len(frame) - 1, min(golden.GOLDEN_ROWS, len(frame))).astype(int)
    records = [_raw(record) for record in frame.iloc[places].to_dict("records")]
    checked = frame_of_records(records, here.schema)
    if len(checked.frame) == 0:
        raise UnsuitableData(f"training rows are no valid records: {checked.problems[0].message}")
    # A training row that a caller could not send, such as one with infinity, proves nothing.
    if checked.good is not None:
        records = [records[place] for place in checked.good]
    rows = _answered(here, records, checked.frame)
    for row in rows:
        _check_answer(row)
    return rows


def _answered(
    here: LoadedVersion, records: list[dict[str, Any]], frame: pd.DataFrame
) -> list[golden.GoldenRow]:
    try:
        return golden.rows_of(records, (scores := here.score(frame)).values, scores.probabilities)
    # Whatever the pipeline raises: it cannot score what it was trained on.
    except Exception as error:
        raise UnsuitableData(
            f"the pipeline cannot score rows of X_train: {type(error).__name__}: {error}. Is it "
            "fitted, and is X_train the raw frame that it was fitted on?"
        ) from error


def _check_answer(row: golden.GoldenRow) -> None:
    answers = [row.value, row.probabilities or []]
    if not _is_sendable(answers):
        raise UnsuitableData(
            f"for the training row {shown(row.record)} the pipeline answers {shown(answers)}; an "
            "answer must be text, a boolean or a finite number, or several of these"
        )


def _is_sendable(answer: Any) -> bool:
    if isinstance(answer, list):
        return all(map(_is_sendable, answer))
    if isinstance(answer, float):
        return math.isfinite(answer)
    return isinstance(answer, str | int)


def _raw(record: dict[Any, Any]) -> dict[str, Any]:
    """A row as a JSON caller would send it."""
    return {str(name): _plain(value) for name, value in record.items()}


def _plain(value: Any) -> Any:
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return None
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    return value.item() if isinstance(value, np.generic) else value


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
