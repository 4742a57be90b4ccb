"""`scoreline metrics`: what Prometheus asks for, beside a queue that no gateway stands in front of."""

from __future__ import annotations

import signal
import threading

import click

from scoreline_client.cli.kit import command, say
from scoreline_client.errors import SettingsError
from scoreline_client.metrics import registry
from scoreline_client.protocol.keys import Keys
from scoreline_client.settings import ClientSettings
from scoreline_client.transport.servers import blocking_redis

_REPLY_S = 5.0


@command()
@click.option("--port", type=click.IntRange(0, 65535), default=9808, show_default=True)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="The address to listen on. Whoever reaches it reads names of models, hosts and counts.",
)
def metrics(port: int, host: str) -> None:
    """Serve the metrics of a queue to Prometheus, until it is interrupted or told to end.

    They are read from Redis at each request, so one exporter is enough for a queue, wherever it
    runs; docs/metrics.md lists them. A gateway answers the same under /metrics.

    \b
    Examples:
      scoreline metrics
      scoreline metrics --host 0.0.0.0 --port 9808
    """
    settings = ClientSettings.from_environment()
    settings.check_redis_url()
    redis = blocking_redis(
        settings.redis_url, socket_timeout=_REPLY_S, socket_connect_timeout=_REPLY_S
    )
    collectors = registry(lambda: redis, Keys(settings.queue))
    from prometheus_client import start_http_server

    try:
        server, thread = start_http_server(port, host, collectors)
    except OSError as error:
        raise SettingsError(
            "--host, --port", f"{host}:{port}", f"free to listen on: {error}"
        ) from error
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    say(
        f"metrics of queue {settings.queue} at http://{host}:{server.server_port}/metrics", err=True
    )
    try:
        ended.wait()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        redis.close()
