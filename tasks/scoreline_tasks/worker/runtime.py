"""Builds the parts of a worker's main process and of its children: drain, lease, heartbeat, follower."""

from __future__ import annotations

import os
from collections.abc import Callable

import redis

from scoreline_artifacts import Store
from scoreline_artifacts.store.rollback_protection import LogMarks
from scoreline_client.protocol.keys import Keys
from scoreline_tasks.models.follower import ReleaseFollower
from scoreline_tasks.models.isolated_load import IsolatedLoad
from scoreline_tasks.models.registry import Models
from scoreline_tasks.queue.drain import Drain, Lease, Wakeups
from scoreline_tasks.queue.recovery import Rescue
from scoreline_tasks.queue.streams import RequestQueue
from scoreline_tasks.scoring.batch import Batcher, Limits
from scoreline_tasks.settings import WorkerSettings
from scoreline_tasks.system.periodic import Periodic
from scoreline_tasks.worker.heartbeat import Heartbeat

EVICT_EVERY_S = 2.0


class Background:
    """The threads that run beside the work of a process."""

    def __init__(self, models: Models, heartbeat: Heartbeat, *others: Periodic) -> None:
        self.heartbeat = heartbeat
        evictor = Periodic(
            "evictor", EVICT_EVERY_S, models.evict_idle, "eviction_failed: idle versions stay"
        )
        self._threads = (evictor, heartbeat, *others)

    def start(self) -> None:
        """Start them."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop them, the last one first."""
        for thread in reversed(self._threads):
            thread.stop()


class Runtime(Background):
    """The drain of a process that scores, with its rescue and its background threads."""

    def __init__(
        self,
        settings: WorkerSettings,
        models: Models,
        heartbeat: Heartbeat,
        lease: Lease,
        *others: Periodic,
        drain: Drain,
        rescue: Rescue,
        queue: RequestQueue,
    ) -> None:
        super().__init__(models, heartbeat, lease, *others)
        self.settings = settings
        self.drain = drain
        self.rescue = rescue
        self._queue = queue

    def stop(self) -> None:
        """Stop the threads, and leave the queue."""
        super().stop()
        self._queue.leave()


def open_models(settings: WorkerSettings) -> Models:
    """Open the artifact store; nothing is loaded yet."""
    strict = bool(settings.strict_environment)
    trial = IsolatedLoad.within(settings.load_limit_s, settings.load_limit_mb, strict=strict)
    return Models(
        Store.from_environment(),
        settings.max_versions,
        seen=LogMarks.from_environment(),
        strict=strict,
        prove=trial.run,
    )


def build_runtime(
    settings: WorkerSettings,
    models: Models,
    node: str,
    wakeups: Wakeups,
    *,
    main_pid: int,
    poll: Callable[[], None] | None,
) -> Runtime:
    """Build a process that scores; `node` is the Celery worker's name.

    `poll` is None in a child: its main process follows the releases, and replaces it.
    """
    keys = Keys(settings.queue)
    connect = connector(settings)
    name = f"{node}/{os.getpid()}"

    def open_queue() -> RequestQueue:
        return RequestQueue(connect(), keys, name, result_ttl_s=settings.result_ttl_s)

    queue = open_queue()
    batcher = Batcher(models, Limits(settings.max_request_bytes, settings.max_request_records))
    lease = Lease(open_queue(), lease_s=settings.lease_s, limit_s=settings.batch_limit_s)
    parent = f"{node}/{main_pid}" if os.getpid() != main_pid else None
    heartbeat = Heartbeat(connect, keys, models, name=name, totals=batcher.totals, parent=parent)
    follower = [ReleaseFollower(poll, connect, keys, poll_s=settings.poll_s)] if poll else []
    return Runtime(
        settings,
        models,
        heartbeat,
        lease,
        *follower,
        drain=Drain(queue, batcher, lease, keys, wakeups, take=settings.batch_records),
        rescue=Rescue(queue, batcher, lease, limit_s=settings.batch_limit_s),
        queue=queue,
    )


def build_supervision(
    settings: WorkerSettings,
    models: Models,
    node: str,
    poll: Callable[[], None],
    child_count: Callable[[], int],
) -> Background:
    """Build the background threads of a main process whose children score."""
    keys = Keys(settings.queue)
    connect = connector(settings)
    heartbeat = Heartbeat(
        connect,
        keys,
        models,
        name=f"{node}/{os.getpid()}",
        # At least 1, also while the pool ends: this process never scores itself.
        child_count=lambda: max(1, child_count()),
    )
    follower = ReleaseFollower(poll, connect, keys, poll_s=settings.poll_s)
    return Background(models, heartbeat, follower)


def connector(settings: WorkerSettings) -> Callable[[], redis.Redis]:
    """How this process connects to Redis: no wait is without a limit, and a dead peer is noticed."""

    def connect() -> redis.Redis:
        return redis.Redis.from_url(
            settings.redis_url,
            socket_timeout=settings.slice_s + 10,
            socket_connect_timeout=5,
            socket_keepalive=True,
            health_check_interval=10,
        )

    return connect
