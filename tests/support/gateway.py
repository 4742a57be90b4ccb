"""A gateway in a process of its own."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from scoreline_tasks.dev.local_worker import scoreline
from scoreline_tasks.dev.server import free_port

START_S = 45.0


@contextmanager
def running_gateway(
    environment: Mapping[str, str], *options: str, log: IO[bytes] | None = None
) -> Iterator[str]:
    """`scoreline gateway` on a free port of this machine; gives its URL, and ends it with the block."""
    port = free_port()
    command = scoreline("gateway", "--port", str(port), *options)
    url = f"http://127.0.0.1:{port}"
    opener = build_opener(ProxyHandler({}))
    with subprocess.Popen(command, env={**os.environ, **environment}, stderr=log) as process:
        try:
            deadline = time.monotonic() + START_S
            while True:
                assert process.poll() is None, "the gateway has ended"
                assert time.monotonic() < deadline, "the gateway does not answer"
                try:
                    opener.open(f"{url}/version", timeout=5).close()
                    break
                except URLError:
                    time.sleep(0.1)
            yield url
        finally:
            process.terminate()
