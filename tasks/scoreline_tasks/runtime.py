"""What one worker process holds, put together in one place."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import redis

from scoreline_artifacts import Store
from scoreline_artifacts.high_water import HighWater
from scoreline_client.keys import Keys
from scoreline_tasks.batching import Batcher, Limits
from scoreline_tasks.drain import Drain
from scoreline_tasks.hints import Hints
from scoreline_tasks.keeper import Keeper
from scoreline_tasks.lease import Lease
from scoreline_tasks.models import Models
from scoreline_tasks.request_queue import RequestQueue
from scoreline_tasks.rescue import Rescue
from scoreline_tasks.settings import WorkerSettings


@dataclass(frozen=True, slots=True)
class Runtime:
    """The parts of a process that scores."""

    settings: WorkerSettings
    drain: Drain
    rescue: Rescue
    lease: Lease
    keeper: Keeper

    def start(self) -> None:
        """Start what runs beside the drain."""
        self.lease.start()
        self.keeper.start()

    def stop(self) -> None:
        """Stop it, in order."""
        self.keeper.stop()
        self.lease.stop()


def open_models(settings: WorkerSettings) -> Models:
    """Open the artifact store and load what is released; done before the worker forks."""
    seen = HighWater.from_environment()
    models = Models(Store.from_environment(), settings.max_versions, seen=seen)
    models.follow()
    return models


def connector(settings: WorkerSettings) -> Callable[[], redis.Redis]:
    """How this process connects to Redis: no wait without a limit, a dead peer is noticed."""

    def connect() -> redis.Redis:
        return redis.Redis.from_url(
            settings.redis_url,
            socket_timeout=settings.slice_s + 10,
            socket_connect_timeout=5,
            socket_keepalive=True,
            health_check_interval=10,
        )

    return connect


def build(settings: WorkerSettings, models: Models, node: str, hints: Hints) -> Runtime:
    """Put a process together; `node` is the Celery worker's name."""
    keys = Keys(settings.queue)
    connect = connector(settings)
    name = f"{node}/{os.getpid()}"

    def queue() -> RequestQueue:
        return RequestQueue(connect(), keys, name, result_ttl_s=settings.result_ttl_s)

    requests = queue()
    batcher = Batcher(models, Limits(settings.max_request_bytes, settings.max_request_records))
    lease = Lease(queue(), lease_s=settings.lease_s, limit_s=settings.batch_limit_s)
    return Runtime(
        settings=settings,
        drain=Drain(requests, batcher, lease, keys, hints, take=settings.batch_records),
        rescue=Rescue(requests, batcher, lease, limit_s=settings.batch_limit_s),
        lease=lease,
        keeper=Keeper(connect, keys, models, batcher.tally, name=name, poll_s=settings.poll_s),
    )
