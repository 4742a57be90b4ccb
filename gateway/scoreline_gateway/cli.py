"""`scoreline gateway` runs the gateway under uvicorn; `scoreline token` makes a token for a caller."""

from __future__ import annotations

import hashlib
import resource
import secrets
import ssl
from typing import Any

import click
import uvicorn

from scoreline_client.cli.kit import command
from scoreline_client.errors import SettingsError
from scoreline_client.logs import json_config
from scoreline_client.protocol.names import is_name
from scoreline_gateway.access import Access, Right, is_loopback
from scoreline_gateway.server import LimitedProtocol
from scoreline_gateway.settings import GatewaySettings

IDLE_S = 75
"""Seconds that an idle connection is kept: longer than proxies keep theirs, so that it is they who close it."""
STOP_S = 30
"""Seconds that requests have to end in when the gateway is stopped."""
BACKLOG = 2048
MOST_FILES = 65_536


@command()
@click.option("--host", metavar="ADDRESS", help="Where to listen.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="The port.  [default: 8080]")
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Processes.",
)
@click.option("--tls-cert", type=click.Path(exists=True, dir_okay=False), help="Certificate, PEM.")
@click.option("--tls-key", type=click.Path(exists=True, dir_okay=False), help="Its private key.")
@click.option(
    "--tls-client-ca",
    type=click.Path(exists=True, dir_okay=False),
    help="Callers must have a certificate that this authority has signed.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="warning",
    show_default=True,
    help="From info on, each request with its answer.",
)
def gateway(
    host: str | None,
    port: int | None,
    workers: int,
    tls_cert: str | None,
    tls_key: str | None,
    tls_client_ca: str | None,
    log_level: str,
) -> None:
    """Answer HTTP in front of the queue: the Open Inference Protocol, MLflow's /invocations, and /v1.

    Only this machine is answered until SCORELINE_GATEWAY_TOKENS names a file of tokens (`scoreline token`).

    \b
    Examples:
      scoreline gateway
      scoreline gateway --host 0.0.0.0 --port 8443 --tls-cert cert.pem --tls-key key.pem
    """
    settings = GatewaySettings.from_environment(gateway_host=host, gateway_port=port)
    settings.check_redis_url()
    Access(settings)
    check_address(settings)
    if (tls_client_ca or tls_key) and not tls_cert:
        raise click.UsageError("--tls-key and --tls-client-ca need --tls-cert")
    # A connection is a file: with the soft limit of 1,024, idle callers would keep others out.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, MOST_FILES)), hard))
    uvicorn.run(
        "scoreline_gateway:app",
        host=settings.gateway_host,
        port=settings.gateway_port,
        workers=workers,
        http=LimitedProtocol,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        log_level=log_level,
        log_config=log_config(log_level, as_json=settings.log == "json"),
        timeout_keep_alive=IDLE_S,
        timeout_graceful_shutdown=STOP_S,
        backlog=BACKLOG,
        ssl_certfile=tls_cert,
        ssl_keyfile=tls_key,
        ssl_ca_certs=tls_client_ca,
        ssl_cert_reqs=ssl.CERT_REQUIRED if tls_client_ca else ssl.CERT_NONE,
    )


def log_config(level: str, *, as_json: bool) -> dict[str, Any]:
    """How a gateway logs; what uvicorn says of connections is only for those who look for errors."""
    if as_json:
        return json_config(level)
    root = {"handlers": ["default"], "level": level.upper()}
    return uvicorn.config.LOGGING_CONFIG | {"root": root}


def check_address(settings: GatewaySettings) -> None:
    """Check that callers of other machines have to send tokens.

    Raises:
        SettingsError: they would not, and the operator has not said that it is meant so.
    """
    is_guarded = settings.gateway_tokens or settings.gateway_allow_no_tokens
    if not is_guarded and not is_loopback(settings.gateway_host):
        expected = (
            "127.0.0.1, since there are no tokens: whoever reaches another address could ask for predictions. "
            "`scoreline token` makes one, SCORELINE_GATEWAY_TOKENS names their file; where only your own "
            "programs reach it: SCORELINE_GATEWAY_ALLOW_NO_TOKENS=1"
        )
        raise SettingsError("SCORELINE_GATEWAY_HOST", settings.gateway_host, expected)


@command()
@click.argument("name")
@click.option("--models", default="*", show_default=True, help="Names of models, with commas.")
@click.option(
    "--rights", default="score", show_default=True, help=f"Of {', '.join(Right)}; or *, all."
)
def token(name: str, models: str, rights: str) -> None:
    """Make a token for the caller NAME; print it, and its line for the file of tokens.

    The file holds the sha256 of tokens only; a token itself is shown this once.

    \b
    Example:
      scoreline token shop --models pima,churn --rights score,jobs
    """
    if not name or any(sign.isspace() or sign == "#" for sign in name):
        raise click.UsageError("NAME is one word, without #")
    if rights != "*" and not set(rights.split(",")) <= set(Right):
        raise click.UsageError(f"--rights are some of {', '.join(Right)}, with commas, or *")
    if models != "*" and not all(map(is_name, models.split(","))):
        raise click.UsageError("--models are names of models, with commas, or *")
    secret = secrets.token_urlsafe(32)
    digest = hashlib.sha256(secret.encode()).hexdigest()
    click.echo(f"token: {secret}", err=True)
    click.echo(f"{digest}  {name}  {models}  {rights}")
