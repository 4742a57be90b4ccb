"""What one worker process holds, put together in one place."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import redis

from scoreline_artifacts import Store
from scoreline_artifacts.store.rollback_protection import HighWater
from scoreline_client.protocol.keys import Keys
from scoreline_tasks.models.follower import Keeper
from scoreline_tasks.models.isolated_load import Trial
from scoreline_tasks.models.registry import Models
from scoreline_tasks.queue.drain import Drain
from scoreline_tasks.queue.hints import Hints
from scoreline_tasks.queue.lease import Lease
from scoreline_tasks.queue.recovery import Rescue
from scoreline_tasks.queue.streams import RequestQueue
from scoreline_tasks.scoring.batch import Batcher, Limits
from scoreline_tasks.settings import WorkerSettings
from scoreline_tasks.worker.heartbeat import Reporter


@dataclass(frozen=True, slots=True)
class Runtime:
    """The parts of a process that scores."""

    settings: WorkerSettings
    drain: Drain
    rescue: Rescue
    lease: Lease
    reporter: Reporter
    keeper: Keeper | None
    """None in a child: its main process follows the releases, and replaces it."""
    leave: Callable[[], None]

    def start(self) -> None:
        """Start what runs beside the drain."""
        self.lease.start()
        self.reporter.start()
        if self.keeper is not None:
            self.keeper.start()

    def stop(self) -> None:
        """Stop it, in order."""
        if self.keeper is not None:
            self.keeper.stop()
        self.reporter.stop()
        self.lease.stop()
        self.leave()


@dataclass(frozen=True, slots=True)
class Supervision:
    """What runs in a main process whose children score."""

    keeper: Keeper
    reporter: Reporter

    def start(self) -> None:
        """Start following the releases and reporting."""
        self.reporter.start()
        self.keeper.start()

    def stop(self) -> None:
        """Stop both."""
        self.keeper.stop()
        self.reporter.stop()


def open_models(settings: WorkerSettings) -> Models:
    """Open the artifact store; nothing is loaded yet."""
    strict = bool(settings.strict_environment)
    trial = Trial.within(settings.load_limit_s, settings.load_limit_mb, strict=strict)
    store = Store.from_environment()
    seen = HighWater.from_environment()
    return Models(store, settings.max_versions, seen=seen, strict=strict, prove=trial.prove)


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


def build(
    settings: WorkerSettings, models: Models, node: str, hints: Hints, *, main_pid: int
) -> Runtime:
    """Put a process that scores together; `node` is the Celery worker's name."""
    keys = Keys(settings.queue)
    connect = connector(settings)
    name = f"{node}/{os.getpid()}"
    forked = os.getpid() != main_pid

    def queue() -> RequestQueue:
        return RequestQueue(connect(), keys, name, result_ttl_s=settings.result_ttl_s)

    requests = queue()
    batcher = Batcher(models, Limits(settings.max_request_bytes, settings.max_request_records))
    lease = Lease(queue(), lease_s=settings.lease_s, limit_s=settings.batch_limit_s)
    parent = f"{node}/{main_pid}" if forked else None
    reporter = Reporter(connect, keys, models, name=name, totals=batcher.totals, parent=parent)
    return Runtime(
        settings=settings,
        drain=Drain(requests, batcher, lease, keys, hints, take=settings.batch_records),
        rescue=Rescue(requests, batcher, lease, limit_s=settings.batch_limit_s),
        lease=lease,
        reporter=reporter,
        keeper=None if forked else _keeper(settings, connect, models.follow, reporter),
        leave=requests.leave,
    )


def supervise(
    settings: WorkerSettings,
    models: Models,
    node: str,
    look: Callable[[], bool],
    places: Callable[[], int],
) -> Supervision:
    """Put together what runs in a main process; `look` returns whether there is news to report."""
    connect = connector(settings)
    name = f"{node}/{os.getpid()}"
    # One at least, also while the pool ends: this process never scores itself.
    reporter = Reporter(
        connect, Keys(settings.queue), models, name=name, children=lambda: max(1, places())
    )
    return Supervision(_keeper(settings, connect, look, reporter), reporter)


def _keeper(
    settings: WorkerSettings,
    connect: Callable[[], redis.Redis],
    look: Callable[[], bool],
    reporter: Reporter,
) -> Keeper:
    def look_and_tell() -> None:
        if look():
            reporter.tell()

    return Keeper(connect, Keys(settings.queue), look_and_tell, poll_s=settings.poll_s)
