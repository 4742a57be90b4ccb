"""A worker inside the caller's own process: the real drain without Celery, for unit tests.

`scoreline_client.testing` gets it by entry point, so that the client need not import it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import redis

from scoreline_artifacts import Store
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_client.protocol.keys import Keys
from scoreline_client.settings import ClientSettings
from scoreline_client.tracing import Tracing
from scoreline_tasks.models.registry import Models
from scoreline_tasks.queue.drain import Drain, Lease, Wakeups
from scoreline_tasks.queue.streams import RequestQueue
from scoreline_tasks.scoring.batch import Batcher
from scoreline_tasks.scoring.limits import Limits


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
        self._models = Models(Store(store or Path("no-store")), max_versions=8)
        for name, pipeline in (models or {}).items():
            self._models.add(LoadedVersion.of(pipeline, name))
        keys = Keys(settings.queue)
        queue = RequestQueue(redis, keys, "in-process", result_ttl_s=settings.result_ttl_s)
        # A fake server reports a missing group in other words than a real server.
        queue.prepare()
        limits = Limits(settings.max_request_bytes, settings.max_request_records)
        lease = Lease(queue, lease_s=3600, limit_s=3600)
        no_wakeups = Wakeups(extra_drain=lambda: None)
        batcher = Batcher(self._models, limits, tracing=Tracing.of(settings))
        self._drain = Drain(queue, batcher, lease, keys, no_wakeups, take=512)

    def serve(self, loaded: LoadedVersion) -> None:
        """Serve one more version, under `production` and its number."""
        self._models.add(loaded)

    def step(self) -> int:
        """Answer the requests that wait now; returns how many."""
        self._models.follow()
        return self._drain.step()

    def close(self) -> None:
        """Nothing runs beside the steps, so there is nothing to end."""
