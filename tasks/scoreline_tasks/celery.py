"""The Celery app: `celery -A scoreline_tasks worker`. Celery's own options all apply.

Celery brings the process pool, the fleet and its tools. Its messages are hints here: requests wait in
Redis Streams, and losing a message loses nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from celery import Celery, signals
from kombu.entity import Queue

from scoreline_client.protocol.keys import Keys
from scoreline_tasks.queue.hints import Hints
from scoreline_tasks.settings import WorkerSettings
from scoreline_tasks.worker.pool import TaskPool, places
from scoreline_tasks.worker.process import WorkerProcess, served
from scoreline_tasks.worker.watchdog import Watcher

if TYPE_CHECKING:
    from scoreline_tasks.worker.runtime import Runtime

logger = logging.getLogger(__name__)

DRAIN, HELP, RESCUE = "scoreline.drain", "scoreline.help", "scoreline.rescue"
HINT_EXPIRES_S = 5
RESCUE_SLICES = 30
"""Halving a claimed batch to its one fatal record may take that many tries, each with its limit."""

process = WorkerProcess()
app = Celery("scoreline")
app.steps["consumer"].add(Watcher)


@app.add_defaults
def configuration() -> dict[str, Any]:
    """Celery's settings, read when they are first needed."""
    settings = WorkerSettings.from_environment()
    limit_s = settings.slice_s + settings.batch_limit_s
    return {
        "broker_url": settings.redis_url,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_transport_options": {
            # Half-open connections are noticed in 20 s instead of 50 s.
            "socket_timeout": 15,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 10,
            # Apart from other Celery applications: theirs may have a shorter visibility timeout.
            "global_keyprefix": Keys(settings.queue).celery_prefix,
        },
        "accept_content": ["json"],
        "task_serializer": "json",
        # A message is a hint: acknowledged at once, its result of no interest to anybody.
        "task_acks_late": False,
        "task_ignore_result": True,
        "task_default_queue": shared_queue(settings),
        "task_queues": [Queue(shared_queue(settings), durable=True)],
        "task_annotations": {
            DRAIN: {"time_limit": limit_s},
            HELP: {"time_limit": limit_s},
            RESCUE: {"time_limit": settings.batch_limit_s * RESCUE_SLICES},
        },
        # Celery's prefork pool, whose children leave when newer ones are to be forked.
        "worker_pool": "scoreline_tasks.worker.pool:TaskPool",
        # No hint waits behind a busy process of one worker while another worker has a free one.
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # The default of 4 s takes a child that loads a large model for dead.
        "worker_proc_alive_timeout": 120,
        "worker_hijack_root_logger": True,
        "worker_send_task_events": False,
    }


def shared_queue(settings: WorkerSettings) -> str:
    """The Celery queue that all workers of a Scoreline queue consume."""
    return f"scoreline.{settings.queue}"


def own_queue(settings: WorkerSettings, node: str) -> Queue:
    """The Celery queue that keeps a worker's parked drain on that worker; gone soon after it."""
    return Queue(f"{shared_queue(settings)}.{node}", expires=120)


@app.task(name=DRAIN)
def drain(number: int) -> None:
    """Serve this worker's share for one slice of time, and send the next."""
    process.park(_runtime(), number, lambda: send_drain(process.node, number))


@app.task(name=HELP)
def help_drain() -> None:
    """Serve beside the parked drains while more waits than they take."""
    process.help(_runtime())


@app.task(name=RESCUE)
def rescue() -> None:
    """Take over the requests of processes that died."""
    served(_runtime().rescue.run)


def send_drain(node: str, number: int) -> None:
    """Send the drain that is to be parked on a worker."""
    queue = own_queue(WorkerSettings.from_environment(), node)
    app.send_task(DRAIN, args=[number], queue=queue, retry=False)


def _runtime() -> Runtime:
    return process.runtime(Hints(help=_hint(help_drain), rescue=_hint(rescue)))


def _hint(task: Any) -> Callable[[], None]:
    def send() -> None:
        try:
            task.apply_async(expires=HINT_EXPIRES_S, retry=False)
        # A hint that cannot be sent costs time, never a request: parked drains come by anyway.
        except Exception as error:  # noqa: BLE001
            logger.warning("hint_not_sent task=%s: %s", task.name, error)

    return send


@signals.celeryd_init.connect
def _on_command(sender: str, conf: Any, **_: Any) -> None:
    process.configure(sender)
    conf.task_queues = [*conf.task_queues, own_queue(WorkerSettings.from_environment(), sender)]


@signals.worker_init.connect
def _on_main_process(**_: Any) -> None:
    process.preload()


@signals.worker_ready.connect
def _on_ready(sender: Any, **_: Any) -> None:
    if isinstance(sender.pool, TaskPool):
        process.supervise(lambda: places(sender.pool))


@signals.worker_process_init.connect
def _on_child(**_: Any) -> None:
    _runtime()


@signals.worker_process_shutdown.connect
def _on_child_end(**_: Any) -> None:
    process.stop()


@signals.worker_shutdown.connect
def _on_main_process_end(**_: Any) -> None:
    process.stop()
