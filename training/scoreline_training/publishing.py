"""publish(): turns a fitted pipeline into a version that is proven to answer as it did in training."""

from __future__ import annotations

import html
import logging
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pandas as pd
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError, RedisError
from redis.retry import Retry

from scoreline_artifacts import (
    ArtifactError,
    Manifest,
    NotReleased,
    Release,
    Schema,
    Store,
    UnsuitableData,
    golden,
)
from scoreline_artifacts.loading.columns import confirm_unused, rows_without_optional
from scoreline_artifacts.loading.outputs import find_outputs
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_artifacts.manifest import PIPELINE, REPORT, SOURCES, STEP_PARAMETERS
from scoreline_artifacts.store import releases
from scoreline_artifacts.store.identity import address_of
from scoreline_artifacts.store.marks import LogMarks
from scoreline_artifacts.store.storage import check_alias, check_name
from scoreline_artifacts.validation import frame_of_records, shown
from scoreline_artifacts.validation.problems import kind_of
from scoreline_client.fleet import announce_release, of_other_stores, read_reports, stores_of
from scoreline_client.protocol.json_records import encode_record
from scoreline_client.protocol.keys import Keys
from scoreline_client.protocol.names import PRODUCTION
from scoreline_client.settings import ArtifactSettings, ClientSettings
from scoreline_client.shown import html_table, shown_name
from scoreline_client.transport.servers import blocking_redis
from scoreline_training.cautions import Caution, PublishWarning
from scoreline_training.declared import as_declared, check_same_answers
from scoreline_training.packing import pack
from scoreline_training.parameters import parameters_of

if TYPE_CHECKING:
    from scoreline_training.report import TrainingReport

logger = logging.getLogger(__name__)

MORE_ROWS = 500
"""Rows beside the golden ones that a version is proved with, at most: those with values that are rare."""
NEWS_TIMEOUT_S = 2
"""Seconds that Redis may take to accept the news of a release; workers find the release by themselves anyway."""

promote_by_default: ContextVar[bool] = ContextVar("promote_by_default", default=False)
"""Whether publish() promotes when its caller leaves it open; `scoreline train --promote` sets it."""

published_by_script: ContextVar[list[PublishedVersion] | None] = ContextVar(
    "published_by_script", default=None
)
"""The list that publish() adds its version to, for `scoreline train SCRIPT` to print."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedVersion:
    """A version that was published, and its release."""

    name: str
    version: int
    path: Path | str
    """A folder, or a URL."""
    manifest: Manifest
    release: Release | None = None
    """The release of the alias, or None if none was wanted."""
    announced: bool = False
    """Whether the release was announced through Redis; otherwise workers find it by themselves, within seconds."""
    warnings: tuple[PublishWarning, ...] = ()
    """Warnings of what may go wrong with it all the same."""

    @property
    def travels(self) -> list[str]:
        """The modules and data files of the training project that came along, by their paths there."""
        listed = (name for name in self.manifest.files if name.startswith(SOURCES))
        return sorted(name.removeprefix(SOURCES) for name in listed)

    @property
    def report(self) -> Path | str:
        """The training report, an HTML file: a path, or a URL."""
        return self.path / REPORT if isinstance(self.path, Path) else f"{self.path}/{REPORT}"

    def __repr__(self) -> str:
        release = "" if self.release is None else f", released as {self.release.alias}"
        return f"<{self.name}@{self.version}{release}: {shown_name(str(self.path))}>"

    def _repr_html_(self) -> str:
        """As a notebook shows it, with a link to the report of a version on this machine."""
        release = "no alias" if self.release is None else self.release.alias
        rows = [("released as", release), ("in", shown_name(str(self.path)))]
        rows += [(name, value) for name, value in self.manifest.metrics.items()]
        rows += [(f"warning: {warning.code}", warning.message) for warning in self.warnings]
        table = html_table(f"{self.name}@{self.version}", ("", ""), rows)
        if not isinstance(self.report, Path):
            return table
        return f'{table}<a href="{html.escape(self.report.resolve().as_uri())}">report</a>'


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
    tolerance: float | None = None,
    optional: Iterable[str] = (),
    schema: Mapping[str, str] | None = None,
    compare: bool | None = None,
    plan_proof_s: float | None = None,
    store: Store | None = None,
) -> PublishedVersion:
    """Publish a fitted pipeline as the next version of a model, and release it if asked to.

    `X_train` is the frame of raw records that the pipeline was fitted on, (rows, columns): the schema
    and the golden rows come from it. `y_train` is (rows,) or (rows, outputs); only its length is
    recorded, and the names of a frame's columns, as those of the outputs. `X_test` and `y_test` are rows that were held out, with the same columns: the report
    measures the pipeline on them, and on the training rows without them. `metrics` and `training` are
    kept in the manifest; without `metrics`, those that the report has measured on held-out rows. So are the parameters
    of the pipeline's steps as text, but for those whose names say that they are secrets.

    Modules of this project that the pipeline needs travel with it. `code` adds those that cannot be
    found by reading the code: modules or packages, also installed ones that the workers do not have, by
    name or as objects, and data files, as `package:path/below/it`.

    `optional` names columns that callers may leave out, or whose value may be missing although no value of
    training was: the pipeline must have an answer for that, as one with an imputer has. What the pipeline
    throws away anyway is found out, and need not be named.

    `schema` gives columns another type than pandas has inferred, by name: `{"visits": "number"}` lets a column of whole
    numbers take 2.5. The pipeline gets the dtype of that type, here and on workers, and must have the same answers for
    the training rows then. Types are those of `ColumnType`.

    `tolerance` is the relative and absolute difference up to which two answers for a record are the same,
    alone or in company, here or on a worker. By default the types of the numbers decide: 1e-9, or 1e-5
    where inputs or answers are float32, 1e-2 where they are float16.

    `compare` says whether the version in production may score rows here, for the report: its code then runs with
    your rights, in the clean room, which hides the keys and is no sandbox. By default only if the key that signs here
    has signed it, too.

    `plan_proof_s` are the seconds in which the pipeline's plan is proved, by default those of the setting: where the
    pipeline is slow, more of them try more rows. 0 proves none.

    Nothing appears in the store unless the pipeline gives the same answers in a clean room, a new
    interpreter without this project, as it does here.

    Raises:
        UnsuitableData: a frame cannot be described, or not with the types of `schema`, an optional column is not there or cannot be missing,
            the labels are not as many as its rows, held-out
            rows have other columns, or the pipeline cannot be serialised, cannot score records
            that are given by name, or answers with something that cannot be sent; or `tolerance` is no
            number from 0.
        DoesNotTravel: the pipeline needs something that cannot travel, or answers otherwise in the
            clean room; the message names it, where it is used, and what to do.
        InvalidName: the name cannot be that of a model, or the alias's cannot be one.
        SettingsError: a release is wanted, and a setting for Redis is unusable; or `plan_proof_s` is no number from 0.
        NotReleased: a release is wanted, and the version is published but could not be released.
    """
    check_name(name)
    check_alias(alias)
    promote = promote_by_default.get() if promote is None else promote
    # Read before anything is visible: a bad setting must not leave a version without its release.
    settings = ClientSettings.from_environment() if promote else None
    proof_s = ArtifactSettings.from_environment(plan_proof_s=plan_proof_s).plan_proof_s
    store = store or Store.from_environment()
    _check_data(X_train, y_train, X_test, y_test)
    if tolerance is not None and not 0 <= tolerance < math.inf:
        raise UnsuitableData(f"tolerance is {tolerance!r}; give a number from 0, such as 1e-6")
    optional_names = [optional] if isinstance(optional, str) else list(optional)
    original = X_train
    X_train, X_test = (  # noqa: N806 - scikit-learn's own name for it
        frame if frame is None else as_declared(frame, schema or {}) for frame in (X_train, X_test)
    )
    columns = Schema.infer(X_train, optional=optional_names)
    loaded, rows, tolerance = choose_golden_rows(
        pipeline, name, columns, X_train, y_train, tolerance
    )
    if schema:
        check_same_answers(loaded, original, X_train, tolerance)
    rows += rows_without_optional(loaded, rows)
    more_rows = golden.encode(choose_more_rows(loaded, X_train))
    draft = Manifest(
        model=name,
        version=max(store.versions(name), default=0) + 1,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        files={},
        schema=columns,
        outputs=loaded.outputs,
        tolerance=tolerance,
        metrics=_as_json(metrics or {}),
        training={
            "rows": len(X_train),
            "labels": None if y_train is None else len(y_train),
            "pipeline": type(pipeline).__name__,
            STEP_PARAMETERS: parameters_of(pipeline),
            **_as_json(training or {}),
        },
    )
    packed = pack(pipeline, draft, golden.encode(rows), code, more_rows, X_train, proof_s)
    columns = confirm_unused(loaded, packed.manifest.schema, X_train, tolerance)
    packed = replace(packed, manifest=replace(packed.manifest, schema=columns))
    data = {"X_train": X_train, "y_train": y_train, "X_test": X_test, "y_test": y_test}
    report = _report(store, loaded, packed.manifest, compare, golden=rows, **data)
    packed = packed.with_file(REPORT, report.html)
    if metrics is None:
        packed = replace(packed, manifest=replace(packed.manifest, metrics=dict(report.figures)))
    manifest = store.publish(packed.manifest, packed.files)
    version, location = manifest.version, store.location(name, manifest.version)
    published = PublishedVersion(
        name=name, version=version, path=location, manifest=manifest, warnings=packed.warnings
    )
    for warning in published.warnings:
        logger.warning("%s@%s %s: %s", name, version, warning.code, warning.message)
    if settings is not None:
        published = _release(published, alias, store, settings)
    if (script_versions := published_by_script.get()) is not None:
        script_versions.append(published)
    return published


def _release(
    published: PublishedVersion, alias: str, store: Store, settings: ClientSettings
) -> PublishedVersion:
    """Release a version that was just published, and tell the workers."""
    name, version = published.name, published.version
    try:
        # Signature and files read back as published; the clean room has proven that it loads.
        store.manifest(name, version)
        release = releases.promote(store, name, version, alias, seen=LogMarks.from_environment())
    except ArtifactError as error:
        raise NotReleased(name, version, alias, error) from error
    announced, elsewhere = announce(release, store, settings)
    for warning in elsewhere:
        logger.warning("%s@%s %s: %s", name, version, warning.code, warning.message)
    warnings = (*published.warnings, *elsewhere)
    return replace(published, release=release, announced=announced, warnings=warnings)


def _report(
    store: Store, loaded: LoadedVersion, manifest: Manifest, compare: bool | None, **data: Any
) -> TrainingReport:
    """The training report, with a comparison if a version is in production."""
    # Imported here: rendering needs libraries that no other use of this module needs.
    from scoreline_training import report

    return report.render(
        report.ReportData(
            version=replace(loaded, outputs=manifest.outputs, batchable=manifest.batchable),
            production=report.incumbent(store, manifest.model, compare=compare),
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


def announce(
    release: Release, store: Store, settings: ClientSettings
) -> tuple[bool, list[PublishWarning]]:
    """Announce a release to the workers; returns whether Redis took it, and warnings of workers that cannot see it."""
    elsewhere: list[PublishWarning] = []
    try:
        with blocking_redis(
            settings.redis_url,
            socket_connect_timeout=NEWS_TIMEOUT_S,
            socket_timeout=NEWS_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        ) as connection:
            keys = Keys(settings.queue)
            announce_release(connection, keys, release.model)
            with suppress(NoPermissionError):
                foreign_reports = of_other_stores(read_reports(connection, keys), release.store)
                if foreign_reports:
                    stores = ", ".join(stores_of(foreign_reports))
                    message = (
                        f"workers of queue {settings.queue!r} read another artifact store, {stores}, and will not "
                        f"serve it; this was released in {shown_name(address_of(store.storage))} "
                        "(SCORELINE_ARTIFACTS)"
                    )
                    elsewhere = [PublishWarning(Caution.OTHER_STORE, message)]
    # ValueError and TypeError are about the URL, under which there is no Redis either.
    except (RedisError, ValueError, TypeError):
        return False, []
    return True, elsewhere


def _check_data(X_train: Any, y_train: Any, X_test: Any, y_test: Any) -> None:  # noqa: N803
    """Raise UnsuitableData unless frames and labels fit each other."""
    if not isinstance(X_train, pd.DataFrame):
        raise UnsuitableData(
            f"X_train is {type(X_train).__name__}; give the pandas DataFrame of raw records that the "
            "pipeline was fitted on: callers give records by column name"
        )
    if len(X_train) == 0:
        raise UnsuitableData("X_train has no rows")
    if X_test is None and y_test is not None:
        raise UnsuitableData("y_test has no rows to belong to; give X_test as well")
    if X_test is not None and not (
        isinstance(X_test, pd.DataFrame) and list(X_test.columns) == list(X_train.columns)
    ):
        raise UnsuitableData(
            "X_test must be a DataFrame with the columns of X_train, in the same order: "
            f"{list(map(str, X_train.columns))[:20]}"
        )
    splits: list[tuple[str, Any, Any]] = [("train", X_train, y_train), ("test", X_test, y_test)]
    for split, frame, labels in splits:
        if labels is None:
            continue
        count = len(labels) if hasattr(labels, "__len__") else kind_of(labels)
        if count != len(frame):
            raise UnsuitableData(
                f"y_{split} has {count} labels for the {len(frame)} rows of X_{split}"
            )


def _as_json(value: Any) -> Any:
    """A metric or parameter as JSON takes it: keys are text, numpy's values become Python's."""
    if isinstance(value, Mapping):
        return {str(key): _as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    if hasattr(value, "tolist"):
        return _as_json(value.tolist())
    return value if value is None or isinstance(value, str | int | float) else str(value)


def choose_golden_rows(
    pipeline: Any,
    name: str,
    schema: Schema,
    frame: pd.DataFrame,
    labels: Any,
    tolerance: float | None,
) -> tuple[LoadedVersion, list[golden.GoldenRow], float]:
    """Raw records spread evenly over the training rows, with the answers that the pipeline gives here.

    Returns the pipeline as a version with its outputs, these golden rows, and the tolerance, which the numbers' types
    decide where none is given.

    Raises:
        UnsuitableData: no row is a valid record, the pipeline cannot score them or answers differently when it is
            asked again, or an answer cannot be sent.
    """
    indices = np.linspace(0, len(frame) - 1, min(golden.GOLDEN_ROWS, len(frame))).astype(int)
    records = _records_at(frame, indices)
    checked = frame_of_records(records, schema)
    if len(checked.frame) == 0:
        raise UnsuitableData(f"training rows are no valid records: {checked.problems[0].message}")
    # A training row that a caller could not send, such as one with infinity, proves nothing.
    records = [records[index] for index in checked.indices]
    try:
        detected = find_outputs(pipeline, checked.frame, labels)
        # predict and predict_proba are both called here: golden rows prove labels that workers take from predict_proba.
        loaded = LoadedVersion(
            pipeline=pipeline, model=name, version=1, outputs=detected.outputs, schema=schema
        )
        scores, again = loaded.score(checked.frame), loaded.score(checked.frame)
    except UnsuitableData:
        raise
    # Whatever the pipeline raises: it cannot score the rows that it was trained on.
    except Exception as error:
        raise UnsuitableData(
            f"the pipeline cannot score rows of X_train: {type(error).__name__}: {error}. Is it "
            "fitted, and is X_train the raw frame that it was fitted on?"
        ) from error
    if scores.unusable:
        row, reason = min(scores.unusable.items())
        raise UnsuitableData(f"for the training row {shown(records[row])} {reason}")
    tolerance = detected.tolerance if tolerance is None else tolerance
    rows = golden.rows_of(records, scores.values, scores.probabilities)
    second_rows = golden.rows_of(records, again.values, again.probabilities)
    for first, second in zip(rows, second_rows, strict=True):
        if not golden.same_answer(first, second, tolerance):
            answers = [shown([row.value, row.probabilities or []]) for row in (first, second)]
            raise UnsuitableData(
                f"asked twice for the training row {shown(first.record)}, the pipeline answers {answers[0]} and then "
                f"{answers[1]}: it is random, or depends on the time or on what it was asked before. Give a random "
                "step its random_state, and the time in a column"
            )
    return loaded, rows, tolerance


def choose_more_rows(loaded: LoadedVersion, frame: pd.DataFrame) -> list[golden.GoldenRow]:
    """Raw records beside the golden ones, with the answers given here.

    For each column a row with each of its values, if they are few, rows with the least and the largest, and one without
    a value: data files and modules that only rare records need are found by them.
    """
    indices: dict[int, None] = {}
    for column in loaded.schema.columns if loaded.schema is not None else ():
        values = frame[column.name].reset_index(drop=True)
        chosen = [*values[values.isna()].index[:1]]
        if column.minimum is not None:
            chosen += [values.idxmin(), values.idxmax()]
        elif values.nunique() <= MORE_ROWS:
            chosen += values.drop_duplicates().index.tolist()
        indices.update(dict.fromkeys(int(index) for index in chosen))
    records = _records_at(frame, list(indices)[:MORE_ROWS])
    checked = frame_of_records(records, loaded.schema)
    records = [records[index] for index in checked.indices]
    try:
        return loaded.score_records(records) if records else []
    # A pipeline need not score all of its training rows; the golden rows are the promise.
    except Exception:  # noqa: BLE001
        return []


def _records_at(frame: pd.DataFrame, indices: Any) -> list[dict[str, Any]]:
    """Rows of a frame as callers send them."""
    records = frame.iloc[indices].to_dict("records")
    return [orjson.loads(encode_record(record)) for record in records]
