"""`scoreline up`: a server and a worker on this machine, for as long as a terminal shows them."""

from __future__ import annotations

from pathlib import Path

from redis import Redis
from rich.console import Console

from scoreline_client.protocol.keys import Keys
from scoreline_client.settings import ClientSettings
from scoreline_tasks.dev.local_worker import (
    WorkerEnded,
    WorkerEnvironment,
    local_worker,
    wait_until_reporting,
)
from scoreline_tasks.dev.server import (
    EmbeddedServerError,
    PortTaken,
    data_of,
    embedded_server,
    port_of,
)

_NEXT = """
[bold]The worker is ready.[/bold] In another terminal:
{setting}  scoreline train pima --promote      train a first model and release it
  scoreline predict pima '{record}'
  scoreline status                    what waits, who serves what
Ctrl-C here stops both.
"""
_RECORD = (
    '{"preg": 6, "plas": 148, "pres": 72, "skin": 35, "test": 0, "mass": 33.6, '
    '"pedi": 0.627, "age": 50}'
)


def serve_here(console: Console, port: int | None, concurrency: int | None, data: Path) -> None:
    """Run both until the worker ends or KeyboardInterrupt is raised.

    Raises:
        SettingsError: a setting is unusable.
        EmbeddedServerError: the server cannot be started; the message says what to do.
        WorkerEnded: the worker ended by itself.
    """
    settings = ClientSettings.from_environment()
    settings.check_redis_url()
    number = port or port_of(settings.redis_url)
    try:
        with (
            embedded_server(port=number, data=data_of(number, data)) as url,
            Redis.from_url(url) as redis,
            local_worker(
                WorkerEnvironment(redis_url=url), concurrency=concurrency, loglevel="WARNING"
            ) as worker,
        ):
            console.print(f"an embedded Redis server listens on {url}; starting a worker")
            wait_until_reporting(worker, redis, Keys(settings.queue))
            setting = "" if url == settings.redis_url else f"  export SCORELINE_REDIS_URL={url}\n"
            console.print(
                _NEXT.format(setting=setting, record=_RECORD), highlight=False, soft_wrap=True
            )
            raise WorkerEnded(worker.wait())
    except PortTaken as error:
        advice = (
            "To use it, start only a worker: celery -A scoreline_tasks worker. "
            if error.is_redis
            else ""
        )
        raise EmbeddedServerError(
            f"{error}. {advice}To start another server: scoreline up --port {number + 1}"
        ) from error
