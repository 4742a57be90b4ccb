"""The Celery app: `celery -A scoreline_tasks worker`. Celery's own options apply.

Those with which a worker would not serve are refused at its start, see `worker/celery_options.py`.

Celery brings the process pool, the fleet and its tools. Its messages are only wakeups here: requests wait in
Redis Streams, and losing a message loses nothing.
"""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import click
from celery import Celery, bootsteps, signals
from celery.concurrency import get_implementation
from celery.worker import consumer, state
from kombu.entity import Exchange, Queue
from kombu.transport import TRANSPORT_ALIASES, redis
from kombu.utils.json import dumps
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError

from scoreline_client.cli.kit import REFUSED
from scoreline_client.errors import (
    ServerRefused,
    ServerTooOld,
    SettingsError,
    UntrustedServer,
)
from scoreline_client.logs import JsonLines
from scoreline_client.protocol.full_server import write_while_full
from scoreline_client.protocol.keys import Keys
from scoreline_client.settings import SentinelUrl, misspelt_variables
from scoreline_client.shown import shown_text
from scoreline_client.transport.connection import server_error
from scoreline_client.transport.servers import check_server, sentinel_options
from scoreline_tasks.settings import IDLE_SLICES, WorkerSettings
from scoreline_tasks.system import REPLY_S, TCP_OPTIONS
from scoreline_tasks.worker.celery_options import POOLS, why_refused
from scoreline_tasks.worker.process import (
    TaskPool,
    WorkerProcess,
    child_count,
    end_overdue_children,
    replace_children,
    take_over_stopped_children,
    this_process,
)

if TYPE_CHECKING:
    from scoreline_tasks.worker.runtime import Runtime

logger = logging.getLogger(__name__)

DRAIN, EXTRA_DRAIN, RESCUE = "scoreline.drain", "scoreline.help", "scoreline.rescue"
RECONNECT_S = 2.0
"""The longest pause between two attempts to reach the broker."""
CELERY_HEARTBEAT_S = 10.0
"""Seconds between two events by which Celery's tools see that a worker is there; Celery's own are 2."""
CHECK_EVERY_S = 0.05
LOOK_FOR_STOPPED_EVERY_S = 0.25
BROKER_REPLY_S = 1.0
SEND_AGAIN_S = 1.0
"""Seconds after which a drain is sent again that the broker did not take."""

app = Celery("scoreline")


class DrainWatchdog(bootsteps.StartStopStep):  # type: ignore[misc]
    """Sees to it that somebody listens: puts another drain in charge when the one that is does not come back.

    A step of Celery's consumer, on Celery's own timer in the worker's main process; started anew with each
    connection to the broker. A drain may score for long, hang or be stopped; it may be lost with the child that ran it,
    with its message, or with the broker's memory. Here, all of that looks the same: it has promised to look at the
    queue by now (`Charge`). Nothing is sent while all processes are busy: there is nobody to listen.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._timers: list[Any] = []
        self._times_stopped: dict[int, int] = {}

    def start(self, consumer: Any) -> None:
        """Start the first drain, and check from now on."""
        self._timers = [
            consumer.timer.call_repeatedly(every_s, check, (consumer,))
            for every_s, check in (
                (CHECK_EVERY_S, self.check),
                (LOOK_FOR_STOPPED_EVERY_S, self.look_for_stopped),
            )
        ]
        self.check(consumer)

    def stop(self, consumer: Any) -> None:  # noqa: ARG002 - Celery's signature
        """Stop checking."""
        while self._timers:
            self._timers.pop().cancel()

    def look_for_stopped(self, consumer: Any) -> None:
        """Take over what stopped children hold."""
        if isinstance(consumer.pool, TaskPool):
            take_over_stopped_children(consumer.pool, self._times_stopped)

    def check(self, consumer: Any) -> None:
        """Send a drain that replaces all earlier ones, if there is a free process and nobody listens."""
        process = this_process()
        try:
            if isinstance(consumer.pool, TaskPool):
                end_overdue_children(consumer.pool, process.call_times)
                replace_children(consumer.pool)
            # As Celery counts them where it prefetches nothing.
            processes = (
                getattr(consumer.controller, "max_concurrency", None) or consumer.pool.num_processes
            )
            if process.charge.is_overdue and len(state.reserved_requests) < processes:
                send_drain(process, process.charge.expect_next())
        # Mostly the broker takes no message now. After any other exception a later check tries again, too:
        # some would end Celery's own loop.
        except Exception as error:  # noqa: BLE001
            process.charge.expect_none(SEND_AGAIN_S)
            logger.warning("drain_not_sent: %r; requests wait until the broker takes it", error)


app.steps["consumer"].add(DrainWatchdog)


class WakeupChannel(redis.Channel):
    """kombu's channel, which a full server does not keep from sending a wakeup: serving is what makes room."""

    def _put(self, queue: str, message: Any, **options: Any) -> None:
        try:
            super()._put(queue, message, **options)
        except OutOfMemoryError:
            with self.conn_or_acquire() as client:
                write_while_full(client, "LPUSH", queue, dumps(message))

    def _queue_bind(self, *args: Any) -> None:
        # A wakeup names its queue: without the binding it arrives all the same.
        with suppress(OutOfMemoryError):
            super()._queue_bind(*args)

    def basic_ack(self, *args: Any, **options: Any) -> None:
        """Nothing: wakeups are not noted as unacknowledged."""

    def maybe_refresh_binding_expiry(self) -> None:
        """Called every second; after a refusal it waits as after success, and logs a line instead of a traceback."""
        try:
            super().maybe_refresh_binding_expiry()
        except ResponseError as error:
            logger.warning("binding_not_renewed: %s; wakeups arrive without it", error)
            self._binding_expiry_refreshed_at = self._bindings_swept_at = time.monotonic()


class WakeupTransport(redis.Transport):
    """kombu's transport for Redis, in the processes of a worker."""

    Channel = WakeupChannel


class SentinelWakeupChannel(WakeupChannel, redis.SentinelChannel):
    """The same channel to the primary that sentinels name."""


class SentinelWakeupTransport(redis.SentinelTransport):
    """kombu's transport for the primary that sentinels name, in the processes of a worker."""

    Channel = SentinelWakeupChannel


class Consumer(consumer.Consumer):  # type: ignore[misc]
    """Celery's consumer, which neither a refusal of the server nor a damaged message ends: it connects again.

    Celery takes only lost connections for that; all else would end the worker for good, though its messages
    are only wakeups. A server refuses writes when its memory or disk is full, while it is a replica, and
    when its replicas are away.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        # Workers need not know of each other: fewer keys, and fewer rights.
        options |= {"without_mingle": True, "without_gossip": True}
        interval_s = (options.get("worker_options") or {}).get("heartbeat_interval")
        options["heartbeat_interval"] = interval_s or CELERY_HEARTBEAT_S
        super().__init__(*args, **options)
        unreadable = (ValueError, TypeError, AttributeError, LookupError)
        self.connection_errors: tuple[type[Exception], ...] = (
            *self.connection_errors,
            RedisError,
            *unreadable,
        )

    def ensure_connected(self, conn: Any) -> Any:
        """Connect, and try again every two seconds; Celery's own pause grows to thirty."""
        conn.ensure_connection = partial(
            conn.ensure_connection, interval_start=0.5, interval_step=0.5, interval_max=RECONNECT_S
        )
        return super().ensure_connected(conn)


def configuration() -> dict[str, Any]:
    """Celery's settings, read when they are first needed."""
    settings = WorkerSettings.from_environment()
    settings.check_redis_url()
    # A drain waits for versions that are loaded for as long as a batch may take, and may then begin a batch.
    limit_s = IDLE_SLICES * settings.slice_s + 2 * settings.batch_limit_s
    sentinel = SentinelUrl.parse(settings.redis_url)
    url = urlsplit(settings.redis_url if sentinel is None else sentinel.server)
    ssl_options: dict[str, Any] = {
        name: value for name, value in parse_qsl(url.query) if name.startswith("ssl_")
    }
    # Without options, kombu takes any certificate, and sends the password to its owner.
    use_ssl = ssl_options or {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True}
    # From the URL of a server kombu reads the options itself.
    needs_ssl = url.scheme == "rediss" and (sentinel is not None or not ssl_options)
    return {
        "broker_url": settings.redis_url if sentinel is None else sentinel_broker(sentinel),
        "broker_use_ssl": use_ssl if needs_ssl else False,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_transport_options": {
            # Half-open connections are noticed in 3 s instead of 50 s. Only short commands are waited for, by the main
            # process, each of whose connections may be dead.
            "socket_timeout": BROKER_REPLY_S,
            "socket_connect_timeout": REPLY_S,
            "socket_keepalive": True,
            "socket_keepalive_options": TCP_OPTIONS,
            "health_check_interval": 1,
            # Wakeups are alike: one list for a queue, instead of four that are all read and renewed.
            "priority_steps": [0],
            # Not shared with other Celery applications, whose visibility timeout may be shorter.
            "global_keyprefix": Keys(settings.queue).celery_prefix,
            **(
                {}
                if sentinel is None
                else {
                    "master_name": sentinel.service,
                    "sentinel_kwargs": sentinel_options(sentinel),
                }
            ),
        },
        "accept_content": ["json"],
        "task_serializer": "json",
        # A message is only a wakeup: acknowledged at once, and its result is not read.
        "task_acks_late": False,
        "task_ignore_result": True,
        "task_default_queue": shared_queue(settings),
        # Not noted as unacknowledged: a full or demoted server refuses that, and nothing is to be restored.
        "task_queues": [Queue(shared_queue(settings), durable=True, no_ack=True)],
        "task_annotations": {
            DRAIN: {"time_limit": limit_s},
            EXTRA_DRAIN: {"time_limit": limit_s},
        },
        "worker_consumer": "scoreline_tasks.celery:Consumer",
        # Whoever can write to the server could stop all workers by one message.
        "worker_enable_remote_control": bool(settings.remote_control),
        # Celery's prefork pool, whose children exit when newer ones are to be forked.
        "worker_pool": "scoreline_tasks.worker.process:TaskPool",
        # No wakeup waits behind a busy process of one worker while another worker has a free process.
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # After the default of 4 s a child that loads a large model would count as dead.
        "worker_proc_alive_timeout": 120,
        "worker_hijack_root_logger": True,
        # In training sys.stdout was a real stream, which modules reconfigure when they are imported.
        "worker_redirect_stdouts": False,
        "worker_send_task_events": False,
    }


app.add_defaults(configuration)


def sentinel_broker(sentinel: SentinelUrl) -> str:
    """kombu's form of a URL with sentinels: one for each, with the user, password and database of the servers."""
    url = urlsplit(sentinel.server)
    user, at, _ = url.netloc.rpartition("@")
    hosts = [(f"[{host}]" if ":" in host else host, port) for host, port in sentinel.sentinels]
    return ";".join(f"sentinel://{user}{at}{host}:{port}{url.path}" for host, port in hosts)


def shared_queue(settings: WorkerSettings) -> str:
    """The Celery queue that all workers of a Scoreline queue consume."""
    return f"scoreline.{settings.queue}"


def own_queue(settings: WorkerSettings, process: WorkerProcess) -> Queue:
    """The Celery queue of a worker's own permanent drain; it expires soon after the worker."""
    name = f"{shared_queue(settings)}.{process.node}.{process.instance}"
    # Of its own exchange: that of the shared queue would bring it a copy of each message to that.
    return Queue(name, Exchange(name), name, expires=120, no_ack=True)


# Events of tasks are for work; these wait for it, again and again.
@app.task(name=DRAIN, send_events=False)
def drain(number: int) -> None:
    """Serve for one slice of time as this worker's permanent drain, and send the next."""
    process = this_process()
    with process.confines_memory():
        process.run_permanent_drain(_runtime(), number, lambda: send_drain(process, number))


@app.task(name=EXTRA_DRAIN, send_events=False)
def extra_drain() -> None:
    """Serve beside the permanent drains while more waits than they take."""
    process = this_process()
    with process.confines_memory():
        process.run_extra_drain(_runtime())


@app.task(name=RESCUE, send_events=False)
def rescue() -> None:
    """Nothing: drains of earlier releases send this, and main processes look for abandoned requests themselves."""


def send_drain(process: WorkerProcess, number: int) -> None:
    """Send this process's worker the permanent drain of this number."""
    queue = own_queue(WorkerSettings.from_environment(), process)
    app.send_task(DRAIN, args=[number], queue=queue, retry=False)


def _runtime() -> Runtime:
    from scoreline_tasks.queue.drain import Wakeups

    return this_process().runtime(Wakeups(_wakeup(extra_drain)))


def _wakeup(task: Any) -> Callable[[], None]:
    def send() -> None:
        try:
            # Without an expiry, which Celery compares with another machine's clock.
            task.apply_async(retry=False)
        # A wakeup that cannot be sent costs time, never a request: the permanent drains serve anyway.
        except Exception as error:  # noqa: BLE001
            logger.warning(
                "hint_not_sent task=%s: %s; permanent drains serve alone", task.name, error
            )

    # Beside the batch that is in hand: over a slow network, connecting to the broker takes seconds.
    return lambda: threading.Thread(target=send, name="scoreline-wakeup", daemon=True).start()


@signals.celeryd_init.connect
def on_command(sender: str, conf: Any, options: dict[str, Any], **_: Any) -> None:
    pool = get_implementation(options.get("pool_cls") or options.get("pool") or conf.worker_pool)
    reason = why_refused(options, pool.__module__)
    if reason is not None:
        # Anything but SystemExit would be logged, and the worker would start.
        click.echo(f"This worker does not start, since it would not serve: {reason}.", err=True)
        raise SystemExit(REFUSED)
    settings = WorkerSettings.from_environment()
    process = this_process()
    process.cautions += misspelt_variables()
    if settings.allow_no_password and not settings.is_guarded:
        process.cautions.append(
            "the server is on the network, and has no password (SCORELINE_ALLOW_NO_PASSWORD): whoever reaches it reads "
            "all records and answers, and can forge them"
        )
    try:
        logger.debug("worker_starts models=%s", settings.model_patterns)
        process.server, server_cautions = check_server(settings.redis_url)
        process.cautions += server_cautions
    except (ServerTooOld, SettingsError) as error:
        click.echo(f"This worker does not start: {error}", err=True)
        raise SystemExit(REFUSED) from error
    except RedisError as error:
        refusal = server_error(error, settings)
        # A server that is out of reach is waited for; a password does not become right by trying it again.
        if isinstance(refusal, ServerRefused | UntrustedServer):
            click.echo(f"This worker does not start: {refusal}", err=True)
            raise SystemExit(REFUSED) from error
    except (ValueError, TypeError):
        pass  # Celery reports a URL that cannot be used
    # In this process and its children, which are a worker's: other applications have kombu's own.
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), f"{__name__}:WakeupTransport"))
    TRANSPORT_ALIASES["sentinel"] = f"{__name__}:SentinelWakeupTransport"
    process.configure(sender)
    conf.task_queues = [*conf.task_queues, own_queue(settings, process)]


class ShownRecords(logging.Filter):
    """Lets no name in the store and no text of a caller steer the terminal or begin a line of its own in the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record; it is logged in any case."""
        is_ours = record.name.startswith("scoreline")
        record.msg, record.args = shown_text(record.getMessage(), in_line=is_ours), None
        if record.exc_info and not record.exc_text:
            record.exc_text = shown_text(logging.Formatter().formatException(record.exc_info))
        return True


class NoWakeups(logging.Filter):
    """Leaves out the lines of wakeups that came and ended well: parked drains come and go every two seconds."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log it; all of them at the level DEBUG."""
        data = getattr(record, "data", None)
        is_wakeup = isinstance(data, dict) and data.get("name") in (DRAIN, EXTRA_DRAIN, RESCUE)
        is_news = record.levelno > logging.INFO or not is_wakeup
        return is_news or logging.getLogger(record.name).isEnabledFor(logging.DEBUG)


_NO_WAKEUPS = NoWakeups()


@signals.after_setup_logger.connect
@signals.after_setup_task_logger.connect
def on_logging(logger: logging.Logger, **_: Any) -> None:
    for name in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(name).addFilter(_NO_WAKEUPS)
    is_json = WorkerSettings.from_environment().log == "json"
    # The logger of the pool has handlers of its own.
    for handler in (*logger.handlers, *logging.getLogger("multiprocessing").handlers):
        if is_json:
            handler.setFormatter(JsonLines())
        else:
            handler.addFilter(ShownRecords())


@signals.worker_init.connect
def on_main_process(sender: Any, **_: Any) -> None:
    this_process().preload(POOLS[get_implementation(sender.pool_cls).__module__])


@signals.worker_ready.connect
def on_ready(sender: Any, **_: Any) -> None:
    if isinstance(sender.pool, TaskPool):
        this_process().supervise(lambda: child_count(sender.pool))
    this_process().tell()


@signals.worker_shutting_down.connect
def on_leaving(**_: Any) -> None:
    this_process().leave()


@signals.worker_process_init.connect
def on_child(**_: Any) -> None:
    _runtime()
    # Now, and not when its first slice ends: meanwhile nobody would listen. Beside it, since kombu waits for a broker
    # that is away for as long as it is, and goes on half a minute later.
    threading.Thread(target=_connect_to_broker, name="scoreline-broker", daemon=True).start()


def _connect_to_broker() -> None:
    with suppress(Exception), app.producer_or_acquire() as producer:
        producer.maybe_declare(own_queue(WorkerSettings.from_environment(), this_process()))


@signals.worker_process_shutdown.connect
@signals.worker_shutdown.connect
def on_end(**_: Any) -> None:
    this_process().stop()
