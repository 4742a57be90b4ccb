"""`python -m tests.fuzz.gateway SCHEMATHESIS [SECONDS]`: hold the gateway to its OpenAPI documents, with requests that nobody sends."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

import uvicorn

from scoreline_client.testing import FakeScoreline
from scoreline_gateway import GatewaySettings, build_app
from scoreline_gateway.server import LimitedProtocol
from tests.support.http_models import serve_models

DOCUMENTS = ("/v1/models/visits/openapi.json", "/v1/models/pima/openapi.json", "/v1/openapi.json")
HOOKS = Path(__file__).with_name("gateway_hooks.py")


async def main(program: str, seconds: int) -> int:
    """Run schemathesis over each document; returns how many runs have found something."""
    failed = [await hold(program, path, seconds // len(DOCUMENTS)) for path in DOCUMENTS]
    return sum(failed)


async def hold(program: str, path: str, seconds: int) -> bool:
    """Serve two models with nothing that was asked before, and hold them to a document; whether something was found."""
    with FakeScoreline() as scoreline, tempfile.TemporaryDirectory() as folder:
        serve_models(scoreline)
        settings = GatewaySettings(gateway_files=folder, gateway_timeout_s=5.0)
        app = build_app(settings, connect=lambda _: scoreline.async_client())
        config = uvicorn.Config(app, port=0, http=LimitedProtocol, log_level="warning")
        server = uvicorn.Server(config)
        listening = config.bind_socket()
        port = listening.getsockname()[1]
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        command = [
            program, "--config-file", str(HOOKS.with_name("gateway.toml")), "run", f"http://127.0.0.1:{port}{path}",
            "--max-time", str(max(1, seconds)),
            "--wait-for-schema", "60", "--continue-on-failure", "--warnings", "off",
        ]  # fmt: skip
        environment = {"SCHEMATHESIS_HOOKS": HOOKS.stem, "PYTHONPATH": str(HOOKS.parent)}
        done = await asyncio.to_thread(
            subprocess.run, command, cwd=folder, env=environment, check=False
        )
        server.should_exit = True
        await serving
    return done.returncode != 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1], int((sys.argv[2:] or ["600"])[0]))))
