"""A worker inside the caller's own process: the real drain without Celery, for unit tests.

`scoreline_client.testing` gets it by entry point, so that the client need not import it.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import redis

from scoreline_artifacts import Schema, Store, UnknownVersionError, UnsuitableData
from scoreline_artifacts.golden import GOLDEN_ROWS
from scoreline_artifacts.loading.columns import confirm_unused, is_batchable, unused_columns
from scoreline_artifacts.loading.fitted import schema_of_fitted
from scoreline_artifacts.loading.outputs import find_outputs
from scoreline_artifacts.loading.version import LoadedVersion, class_source
from scoreline_artifacts.store.storage import check_alias, check_name
from scoreline_artifacts.validation import frame_of_records
from scoreline_client.arguments import version_of as version_of_argument
from scoreline_client.codes import Code
from scoreline_client.errors import RequestRefused, SettingsError
from scoreline_client.fleet import ProcessReport, ServedModel, send_report, withdraw_report
from scoreline_client.protocol.json_records import encode_record
from scoreline_client.protocol.keys import Keys
from scoreline_client.protocol.messages import ModelRef
from scoreline_client.protocol.names import PRODUCTION
from scoreline_client.settings import ClientSettings
from scoreline_client.tracing import Tracing
from scoreline_tasks.models.registry import Models
from scoreline_tasks.queue.drain import Drain, Lease, Wakeups
from scoreline_tasks.queue.streams import RequestQueue
from scoreline_tasks.scoring.batch import Batcher
from scoreline_tasks.scoring.limits import Limits

logger = logging.getLogger(__name__)

REPORT_EVERY_S = 2.0


def version_of(
    pipeline: Any,
    model: str,
    version: int = 1,
    frame: pd.DataFrame | None = None,
    labels: Any = None,
    optional: Collection[str] = (),
) -> LoadedVersion:
    """A fitted pipeline as the version that `publish` would make of it, without the proof that it travels.

    Without its training frame it has the columns that the pipeline itself tells of, if it does; else its records are
    not checked.

    Raises:
        UnsuitableData: the frame cannot be described, or the pipeline has no answers for it that can be sent.
    """
    if frame is None:
        schema = schema_of_fitted(pipeline)
        if schema is None and hasattr(pipeline, "feature_names_in_"):
            logger.warning(
                "records_not_checked model=%s: its pipeline does not tell the types of its columns; give the "
                "training frame as well, FakeModel(pipeline, X_train)",
                model,
            )
        return LoadedVersion.of(pipeline, model, version, schema)
    schema = Schema.infer(frame, optional=optional)
    indices = np.linspace(0, len(frame) - 1, min(GOLDEN_ROWS, len(frame))).astype(int)
    records = [orjson.loads(encode_record(row)) for row in frame.iloc[indices].to_dict("records")]
    checked = frame_of_records(records, schema)
    if checked.frame.empty:
        raise UnsuitableData("no row of the training frame is a valid record")
    answers = find_outputs(pipeline, checked.frame, labels)
    loaded = LoadedVersion(
        pipeline=pipeline,
        model=model,
        version=version,
        outputs=answers.outputs,
        schema=schema,
        class_from=class_source(pipeline, answers.outputs),
    )
    rows = loaded.score_records([records[index] for index in checked.indices])
    unused = unused_columns(loaded, rows, answers.tolerance)
    schema = confirm_unused(loaded, schema.with_unused(unused), frame, answers.tolerance)
    return replace(loaded, schema=schema, batchable=is_batchable(loaded, rows, answers.tolerance))


class ServedHere:
    """The versions that were passed in, by reference, before those that a store has released."""

    def __init__(self, models: Models) -> None:
        self._released = models
        self._versions: dict[tuple[str, int], LoadedVersion] = {}
        self._aliases: dict[tuple[str, str], int] = {}
        self.slow_s = 0.0
        """Seconds that each batch takes longer."""
        self.ended = threading.Event()

    def resolve(self, ref: ModelRef, asked_at: float = -math.inf) -> LoadedVersion:
        """The version that a reference names now, for a request that came at `asked_at`.

        Raises:
            RequestRefused: E_UNKNOWN_MODEL or E_NOT_LOADED.
        """
        self.ended.wait(self.slow_s)
        version = ref.version if ref.alias is None else self._aliases.get((ref.name, ref.alias))
        loaded = None if version is None else self._versions.get((ref.name, version))
        if loaded is None and ref.version is not None and (versions := self.versions(ref.name)):
            error = UnknownVersionError(ref.name, ref.version, versions)
            raise RequestRefused(Code.UNKNOWN_MODEL, str(error))
        return self._released.resolve(ref, asked_at) if loaded is None else loaded

    def add(self, loaded: LoadedVersion) -> None:
        self._versions[loaded.model, loaded.version] = loaded

    def versions(self, model: str) -> list[int]:
        return sorted(version for name, version in self._versions if name == model)

    def promote(self, model: str, version: int, alias: str) -> None:
        self._aliases[model, alias] = version

    def report(self) -> dict[str, ServedModel]:
        """The state of each `<model>@<alias>`, as a worker process reports it."""
        here = {
            f"{model}@{alias}": ServedModel(serving=version, wanted=version, resident=[version])
            for (model, alias), version in list(self._aliases.items())
        }
        return self._released.report() | here


class InProcessWorker:
    """Answers the requests that wait, whenever `step` is called."""

    def __init__(
        self,
        redis: redis.Redis,
        settings: ClientSettings,
        models: Mapping[str, Any] | None = None,
        store: Path | str | None = None,
    ) -> None:
        """Serve fitted pipelines by name, as version 1 of each, or the releases of a store."""
        self._redis = redis
        self._keys = Keys(settings.queue)
        self._released = Models(Store(store or Path("no-store")), max_versions=8)
        self._models = ServedHere(self._released)
        for name, pipeline in (models or {}).items():
            self.serve(LoadedVersion.of(pipeline, name))
        queue = RequestQueue(redis, self._keys, "in-process", result_ttl_s=settings.result_ttl_s)
        # A fake server reports a missing group in other words than a real server.
        queue.prepare()
        limits = Limits(settings.max_request_bytes, settings.max_request_records)
        lease = Lease(queue, lease_s=3600, limit_s=3600)
        no_wakeups = Wakeups(extra_drain=lambda: None)
        self._batcher = Batcher(self._models, limits, tracing=Tracing.of(settings))
        self._drain = Drain(queue, self._batcher, lease, self._keys, no_wakeups, take=512)
        self._name, self._started_at, self._reported_at = "in-process/1", time.time(), 0.0

    def serve(self, loaded: LoadedVersion, alias: str | None = PRODUCTION) -> None:
        """Serve one more version, under an alias and its number."""
        self._models.add(loaded)
        if alias is not None:
            self._models.promote(loaded.model, loaded.version, alias)
        self._reported_at = 0.0

    def add(
        self,
        model: str,
        pipeline: Any,
        *,
        version: int | None = None,
        alias: str | None = PRODUCTION,
        frame: pd.DataFrame | None = None,
        labels: Any = None,
        optional: Collection[str] = (),
    ) -> int:
        """Serve a fitted pipeline as a version, the next one if none is named; returns its number.

        Raises:
            UnsuitableData: its training frame is given, and does not fit it.
            InvalidName: the model or the alias cannot have this name.
        """
        check_name(model)
        if version is not None:
            version_of_argument(version)
        number = version or max(self._models.versions(model), default=0) + 1
        self.serve(
            version_of(pipeline, model, number, frame, labels, optional),
            None if alias is None else check_alias(alias),
        )
        return number

    def promote(self, model: str, version: int, alias: str = PRODUCTION) -> None:
        """Let an alias name a version that is there.

        Raises:
            SettingsError: there is no such version.
        """
        versions = self._models.versions(check_name(model))
        if version_of_argument(version) not in versions:
            expected = f"one of the versions of {model!r}, {versions or 'of which there are none'}"
            raise SettingsError("version", version, expected)
        self._models.promote(model, version, check_alias(alias))
        self._reported_at = 0.0

    def served(self) -> dict[str, int | None]:
        """The version that answers to each `<model>@<alias>`."""
        return {name: served.serving for name, served in self._models.report().items()}

    def step(self) -> int:
        """Answer the requests that wait now; returns how many."""
        self._released.follow()
        return self._drain.step()

    def report(self) -> None:
        """Report as a process of a worker does, every two seconds."""
        now = time.time()
        if now - self._reported_at < REPORT_EVERY_S:
            return
        report = ProcessReport(
            name=self._name,
            host=socket.gethostname(),
            pid=os.getpid(),
            started_at=self._started_at,
            reported_at=now,
            models=self._models.report(),
            requests=self._batcher.totals.requests,
        )
        send_report(self._redis, self._keys, report)
        self._reported_at = now

    def withdraw(self) -> None:
        """Forget that this process serves, until it reports again."""
        withdraw_report(self._redis, self._keys, self._name)
        self._reported_at = 0.0

    def slow(self, seconds: float) -> None:
        """Let each batch take so many seconds longer."""
        self._models.slow_s = seconds

    def close(self) -> None:
        """End the step that may be under way."""
        self._models.ended.set()
