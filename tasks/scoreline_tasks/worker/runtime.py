"""Builds a worker's main process and its children: drain, lease, heartbeat, release follower."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError, RedisError
from redis.retry import Retry

from scoreline_artifacts import Store
from scoreline_artifacts.store.marks import LogMarks
from scoreline_client.fleet import ProcessReport, send_report, withdraw_report
from scoreline_client.history import record_history
from scoreline_client.protocol.keys import Keys, Lane
from scoreline_client.protocol.totals import Totals
from scoreline_client.tracing import Tracing
from scoreline_client.transport.connection import load_scripts
from scoreline_client.transport.servers import blocking_redis
from scoreline_tasks.models.isolated_load import MIB, IsolatedLoad, ServedBy, available_memory
from scoreline_tasks.models.registry import Models
from scoreline_tasks.queue.drain import FIRST_READ, Drain, Lease, Wakeups
from scoreline_tasks.queue.recovery import Rescue, Team
from scoreline_tasks.queue.streams import RequestQueue
from scoreline_tasks.scoring.batch import Batcher, Timed
from scoreline_tasks.scoring.limits import Limits
from scoreline_tasks.settings import WorkerSettings
from scoreline_tasks.system import REPLY_S, STOP_S, TCP_OPTIONS, Periodic
from scoreline_tasks.worker.nursery import Nursery
from scoreline_tasks.worker.shared import Silence

logger = logging.getLogger(__name__)


NEWS_EVERY_S = 0.5
"""Seconds between two polls for the sake of news: anybody who may publish decides how many there are."""
NEWS_AT_ONCE = 10_000


class ReleaseFollower(Periodic):
    """Calls `poll` every `poll_s` seconds, whenever Redis brings the news of a release, and while it returns True.

    News can get lost, so they only shorten the wait; the artifact store is the truth.
    """

    def __init__(
        self,
        poll: Callable[[], bool],
        connect: Callable[[], redis.Redis],
        keys: Keys,
        *,
        poll_s: float,
    ) -> None:
        super().__init__(
            "follower",
            poll_s,
            self.poll_once,
            "store_unreadable: the loaded versions continue to serve",
        )
        self._poll = poll
        self._is_behind = False
        """Whether the last poll has left something to be loaded."""
        self._poll_s = poll_s
        self._redis: Any = connect()
        self._keys = keys
        self._news: Any = None
        self._polled_at = -NEWS_EVERY_S
        """When there was last a poll for the sake of news."""

    def stop(self, wait_s: float = 0) -> None:
        """Stop following. A load that has begun is not waited for: it ends with its process."""
        super().stop(wait_s)

    def poll_once(self) -> None:
        """Poll, and note whether there is more to do."""
        self._is_behind = False
        self._is_behind = self._poll()

    def sleep(self) -> None:
        """Wait for news of a release, up to `poll_s` seconds; not at all while there is something to load."""
        if self._is_behind:
            return
        try:
            if self._news is None:
                self._news = self._redis.pubsub(ignore_subscribe_messages=True)
                self._news.subscribe(self._keys.releases)
            # Returns at once when it is subscribed: the next poll finds a release that came just before.
            if self._news.get_message(timeout=self._poll_s) is not None:
                self._due.wait(max(0.0, self._polled_at + NEWS_EVERY_S - time.monotonic()))
                # One poll answers all that have come by now.
                for _ in range(NEWS_AT_ONCE):
                    if self._news.get_message() is None:
                        break
                self._polled_at = time.monotonic()
        # Mostly Redis that is away; whatever it is, releases are followed without news of them.
        except Exception as error:  # noqa: BLE001
            logger.warning("redis_lost: %r; releases are noticed by polling alone", error)
            self._news = None
            super().sleep()


REPORT_EVERY_S = 2.0


class Heartbeat(Periodic):
    """Reports from a thread of its own: a process that loads something for minutes is alive, too."""

    def __init__(
        self,
        connect: Callable[[], redis.Redis],
        keys: Keys,
        models: Models,
        *,
        name: str,
        totals: Totals | None = None,
        parent: str | None = None,
        child_count: Callable[[], int] = lambda: 0,
        on_error: Callable[[RedisError], None] = lambda _: None,
    ) -> None:
        """`parent` names the main process's report, `child_count` counts the children of a main process.

        `on_error` gets the error for which a report fails.
        """
        super().__init__(
            "heartbeat", REPORT_EVERY_S, self.send, "report_failed: this process may look dead"
        )
        self._redis: Any = connect()
        self._keys = keys
        self._models = models
        self._totals = totals or Totals()
        self._name = name
        self._parent = parent
        self._child_count = child_count
        self._on_error = on_error
        self._started_at = time.time()
        self._may_record = True
        """False once the server has refused it, where its users are those of an earlier release."""
        self._counts: list[tuple[str, str, int]] = []
        """Counts that the totals may not have yet: they are sent again as they were sent."""
        self._counted = int(self._started_at * 1000)
        """The number of these counts. A process begins with a greater one than an earlier process of its name."""
        self._may_count = True

    def send_now(self) -> None:
        """Report at once, since something has changed."""
        self.trigger()

    def stop(self, wait_s: float = STOP_S) -> None:
        """Stop reporting, have all counts in the totals, and withdraw the report."""
        super().stop(wait_s)
        try:
            # What a lost reply has left, and what was counted since.
            for _ in range(2 if self._counts else 1):
                self._send_report()
            withdraw_report(self._redis, self._keys, self._name)
        except RedisError as error:
            logger.debug("report_not_withdrawn: %s; it expires by itself", error)

    def send(self) -> None:
        """Send one report; a worker's first process sees to it that the server has the scripts that callers run."""
        try:
            self._send_report()
            if self._parent is not None:
                return
            # It forgets them when it is restarted; callers need no right to load any.
            load_scripts(self._redis)
            if self._may_record:
                try:
                    record_history(self._redis, self._keys)
                except NoPermissionError as error:
                    self._may_record = False
                    logger.warning(
                        "history_not_recorded: %s; `scoreline acl worker` prints the rights that workers have now",
                        error,
                    )
        except RedisError as error:
            logger.debug("report_not_sent: %s; the next one is due soon", error)
            self._on_error(error)

    def _send_report(self) -> None:
        if not self._counts:
            self._counts = self._totals.take()
            self._counted += 1
        if not send_report(self._redis, self._keys, self.report(), self._counts):
            if self._may_count:
                logger.warning(
                    "not_counted: this user of the server has no right to add to the totals; "
                    "`scoreline acl worker` prints the rights that workers have now"
                )
            self._may_count = False
        self._counts = []

    def report(self) -> ProcessReport:
        """What this process is and serves now."""
        rss_bytes = 0  # where there is no /proc, the report goes without
        with suppress(OSError), open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123
            rss_bytes = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return ProcessReport(
            name=self._name,
            host=socket.gethostname(),
            pid=os.getpid(),
            parent=self._parent,
            children=self._child_count(),
            started_at=self._started_at,
            reported_at=time.time(),
            models=self._models.report(),
            unloaded=self._models.unloaded,
            only=",".join(self._models.only),
            store=self._models.store,
            store_id=self._models.store_id,
            requests=self._totals.requests,
            records=self._totals.records,
            batches=self._totals.batches,
            answered_at=self._totals.answered_at,
            rss_bytes=rss_bytes,
            counted=self._counted,
        )


MANY_CONNECTIONS = 1 << 16
"""A pool of threads has one or two for each thread; where they are not enough, Redis would seem to be lost."""
CHECK_LINES_EVERY_S = 0.5
EVICT_EVERY_S = 2.0


class Background:
    """The threads that run beside the work of a process, which is a consumer of its queue."""

    def __init__(
        self, models: Models, heartbeat: Heartbeat, queue: RequestQueue, *others: Periodic
    ) -> None:
        self.heartbeat = heartbeat
        self._queue = queue
        evictor = Periodic(
            "evictor", EVICT_EVERY_S, models.evict_idle, "eviction_failed: idle versions stay"
        )
        self._threads = (evictor, heartbeat, *others)

    def start(self) -> None:
        """Start them."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop them in reverse order, and leave the queue."""
        for thread in reversed(self._threads):
            thread.stop()
        self._queue.leave()


class Runtime(Background):
    """The drain of a process that scores, with its background threads."""

    def __init__(
        self,
        settings: WorkerSettings,
        models: Models,
        heartbeat: Heartbeat,
        lease: Lease,
        *others: Periodic,
        drain: Drain,
        queue: RequestQueue,
        connections: Connections,
    ) -> None:
        super().__init__(models, heartbeat, queue, lease, connections.watch(), *others)
        self.settings = settings
        self.drain = drain
        self.connections = connections


def open_models(settings: WorkerSettings, served_by: ServedBy) -> tuple[Models, Nursery]:
    """Open the artifact store, with the nursery where its versions are tried; nothing is loaded yet."""
    strict = bool(settings.strict_environment)
    store = Store.from_environment()
    trial = IsolatedLoad.within(
        settings.load_limit_s, settings.load_limit_mb, strict=strict, served_by=served_by
    )
    nursery = Nursery(store, trial, memory_limit(settings))
    models = Models(
        store,
        settings.max_versions,
        seen=LogMarks.from_environment(),
        strict=strict,
        prove=nursery.prove,
        forks=served_by is ServedBy.FORKS,
        unreleased=bool(settings.serve_unreleased),
        only=settings.model_patterns,
        asked=nursery.asked,
    )
    nursery.batcher = Batcher(models, limits_of(settings))
    return models, nursery


def memory_limit(settings: WorkerSettings) -> int:
    """Bytes that a process which scores may take beside what it begins with."""
    return settings.memory_limit_mb * MIB or available_memory() // 2


def limits_of(settings: WorkerSettings) -> Limits:
    """How large a request may be, and how much an answer says."""
    return Limits(
        settings.max_request_bytes, settings.max_request_records, bool(settings.suggestions)
    )


def build_runtime(
    settings: WorkerSettings,
    models: Models,
    nursery: Nursery,
    node: str,
    wakeups: Wakeups,
    *,
    main_pid: int,
    timed: Timed,
    silence: Silence,
    poll: Callable[[], bool] | None,
) -> Runtime:
    """Build a process that scores; `node` is the Celery worker's name.

    `poll` is None in a child: its main process follows the releases, and replaces it.
    """
    keys = Keys(settings.queue)
    connections = Connections(settings, silence)
    connect = connections.open
    name = f"{node}/{os.getpid()}"

    def open_queue() -> RequestQueue:
        return RequestQueue(connect(), keys, name, result_ttl_s=settings.result_ttl_s)

    queue = open_queue()
    batcher = Batcher(models, limits_of(settings), timed, Tracing.of(settings))
    lease = Lease(open_queue(), lease_s=settings.lease_s, limit_s=settings.batch_limit_s)
    parent = f"{node}/{main_pid}" if os.getpid() != main_pid else None
    heartbeat = Heartbeat(
        connect,
        keys,
        models,
        name=name,
        totals=batcher.totals,
        parent=parent,
        on_error=connections.note_error,
    )
    others: list[Periodic] = []
    if poll is not None:
        others = [
            ReleaseFollower(poll, connect, keys, poll_s=settings.poll_s),
            *open_rescues(settings, open_queue, lease, nursery, batcher.totals).rescues,
        ]
    return Runtime(
        settings,
        models,
        heartbeat,
        lease,
        *others,
        drain=Drain(
            queue, batcher, lease, keys, wakeups, take=settings.batch_records, first=FIRST_READ
        ),
        queue=queue,
        connections=connections,
    )


RESCUES = 3
"""Rescues of one worker, one of them for the online lane alone: others need not wait for a request that takes long."""


def open_rescues(
    settings: WorkerSettings,
    open_queue: Callable[[], RequestQueue],
    lease: Lease,
    nursery: Nursery,
    totals: Totals,
) -> Team:
    """Threads that answer the requests of dead processes."""
    team = Team()
    for number in range(RESCUES):
        rescue = Rescue(
            open_queue(),
            lease,
            nursery.score,
            limit_s=settings.batch_limit_s,
            load_s=2 * settings.load_limit_s,  # its trial, and loading it
            team=team,
            lanes=tuple(Lane) if number else (Lane.ONLINE,),
            totals=totals,
        )
        team.rescues.append(rescue)
    return team


class Supervision(Background):
    """The threads of a main process whose children score."""

    def __init__(
        self,
        models: Models,
        heartbeat: Heartbeat,
        queue: RequestQueue,
        team: Team,
        *others: Periodic,
    ) -> None:
        super().__init__(models, heartbeat, queue, *others, *team.rescues)
        self.team = team


def build_supervision(
    settings: WorkerSettings,
    models: Models,
    nursery: Nursery,
    node: str,
    poll: Callable[[], bool],
    child_count: Callable[[], int],
    silence: Silence,
) -> Supervision:
    """Build the background threads of a main process whose children score."""
    keys = Keys(settings.queue)
    connections = Connections(settings, silence)
    connect = connections.open
    name = f"{node}/{os.getpid()}"

    def open_queue() -> RequestQueue:
        return RequestQueue(connect(), keys, name, result_ttl_s=settings.result_ttl_s)

    totals = Totals()  # of its rescues
    heartbeat = Heartbeat(
        connect,
        keys,
        models,
        name=name,
        totals=totals,
        # At least 1, also while the pool ends: this process never scores itself.
        child_count=lambda: max(1, child_count()),
        # It writes every two seconds: a server that takes no writes any more, or is silent, is left by all
        # threads of this process, which has no drain that would notice.
        on_error=connections.note_error,
    )
    lease = Lease(open_queue(), lease_s=settings.lease_s, limit_s=settings.batch_limit_s)
    return Supervision(
        models,
        heartbeat,
        open_queue(),
        open_rescues(settings, open_queue, lease, nursery, totals),
        lease,
        ReleaseFollower(poll, connect, keys, poll_s=settings.poll_s),
        connections.watch(),
    )


class Connections:
    """The connections of a process to Redis: no wait is long, and a dead peer is noticed."""

    def __init__(self, settings: WorkerSettings, silence: Silence) -> None:
        """Prepare; nothing is connected yet."""
        self._silence = silence
        self._made_at = time.monotonic()
        self._pool = blocking_redis(
            settings.redis_url,
            # No command waits longer than a drain, for a quarter of a second.
            socket_timeout=REPLY_S,
            socket_connect_timeout=REPLY_S,
            socket_keepalive=True,
            socket_keepalive_options=TCP_OPTIONS,
            health_check_interval=10,
            max_connections=MANY_CONNECTIONS,
            # What was sent over a connection that has ended is sent once more. Silence is to be noticed.
            retry=Retry(NoBackoff(), 1, (redis.ConnectionError,)),
        ).connection_pool

    def open(self) -> redis.Redis:
        """A client over these connections."""
        return redis.Redis(connection_pool=self._pool)

    def watch(self) -> Periodic:
        """A thread that gives up connections which another process has found to be dead."""
        return Periodic("connections", CHECK_LINES_EVERY_S, self.check, "connections_not_checked")

    def check(self) -> None:
        """Give up all connections if another process got no reply since they were made."""
        if self._silence.was_after(self._made_at):
            self.drop()

    def note_error(self, error: redis.RedisError) -> None:
        """A command has failed: give up all connections, unless the server has refused it."""
        if isinstance(error, redis.TimeoutError):
            self._silence.note(REPLY_S)
        if not isinstance(error, redis.ResponseError) or isinstance(error, redis.ReadOnlyError):
            self.drop()

    def drop(self) -> None:
        """Close all of them: where one got no reply, each of the others would be waited for in vain, in turn."""
        self._made_at = time.monotonic()
        self._pool.disconnect(inuse_connections=False)
        with self._pool._lock:
            in_use = list(self._pool._in_use_connections)
        for connection in in_use:
            # Its thread notices, and connects again. Closed from here, it would miss its socket in the
            # midst of a command.
            with suppress(OSError, AttributeError):
                connection._sock.shutdown(socket.SHUT_RDWR)
