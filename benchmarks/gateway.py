"""HTTP: the gateway beside the client alone, beside itself without any counting, and beside MLServer, which batches as well.

MLServer needs an environment of its own (`make bench-gateway` sets it up); without it, its rows are missing.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import joblib
import orjson
import uvloop

from benchmarks.callers import tasks
from benchmarks.measures import Rate, Row, alone, at_least, at_most, minus, times
from benchmarks.stage import MODEL, Stage
from scoreline_tasks.dev.demo import records
from scoreline_tasks.dev.local_worker import scoreline
from scoreline_tasks.dev.processes import running
from scoreline_tasks.dev.server import free_port
from scoreline_training.jobs.pima import features
from scoreline_training.jobs.pima.training import load_split, make_pipeline

REPEATS = 5
WARM_UP_S = 0.5
REPEAT_S = 2.0
READY_S = 120.0
CONNECTIONS = 64
BODIES = 1000
MLSERVER = Path(__file__).parents[1] / ".venv-mlserver" / "bin" / "mlserver"
GATEWAY_64, GATEWAY_1 = "gateway, /v2, 64 connections", "gateway, /v2, 1 connection"
V1_64 = "gateway, /v1, 64 connections"
CLIENT_64, CLIENT_1 = "AsyncClient, 64 in flight", "AsyncClient, 1 in flight"
MLSERVER_64, MLSERVER_1 = "MLServer, 64 connections", "MLServer, 1 connection"
PER_SECOND, P50, P99 = "answers a second", "p50 in ms", "p99 in ms"

UNCOUNTED_64 = "the same without counting"
UNCOUNTED = """
import sys
from scoreline_client.protocol.totals import Totals

Totals.add_batch = Totals.add_request = lambda *_, **__: None
if "gateway" in sys.orig_argv:
    from scoreline_gateway.metrics import HttpMetrics

    HttpMetrics.note = lambda *_: None
"""
"""What Python does at its start in a worker and a gateway that count nothing."""

Ask = Callable[[float], Rate]


class Caller(asyncio.Protocol):
    """A connection that sends a request, waits for its answer, and sends the next; as cheap as can be, since it
    shares the machine with what is measured."""

    def __init__(self, requests: Iterator[bytes], until: float, waits: list[float]) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._requests = requests
        self._until = until
        self._waits = waits
        self._data = b""
        self._missing = 0

    def connection_made(self, transport: Any) -> None:
        """Send the first request."""
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        """Read on; after the end of an answer send the next request."""
        self._data += data
        if not self._missing:
            head, found, _ = self._data.partition(b"\r\n\r\n")
            if not found:
                return
            if not head.startswith(b"HTTP/1.1 200"):
                self.done.set_exception(AssertionError(f"not scored: {self._data[:500]!r}"))
                return
            length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            self._missing = len(head) + 4 + int(length)
        if len(self._data) < self._missing:
            return
        now = time.perf_counter()
        self._waits.append(now - self._sent)
        self._data, self._missing = b"", 0
        if now < self._until:
            self._send()
        elif not self.done.done():
            self._transport.close()
            self.done.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        """Fail if the end has not come."""
        if not self.done.done():
            self.done.set_exception(error or AssertionError("the server has closed a connection"))

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(next(self._requests))


def measure(stage: Stage) -> list[Row]:
    """All servers wait all the time; one side at a time is asked, in turns."""
    found: dict[str, list[Rate]] = {}
    with ExitStack() as running_servers:
        running_servers.enter_context(stage.worker())
        sides = _sides(stage, running_servers)
        sides |= _uncounted(stage, running_servers)
        for repeat in range(REPEATS):
            # There and back: what came before leaves its traces in the machine.
            for who, ask in list(sides.items())[:: 1 if repeat % 2 else -1]:
                ask(WARM_UP_S)
                found.setdefault(who, []).append(ask(REPEAT_S))
    return _rows(found)


def _sides(stage: Stage, servers: ExitStack) -> dict[str, Ask]:
    port = servers.enter_context(_gateway(stage))
    infer = [_request("/v2/models/pima/infer", body) for body in _bodies()]
    own = [_request("/v1/models/pima:predict", one) for one in records(BODIES, seed=1)]

    sides: dict[str, Ask] = {
        GATEWAY_64: _http(port, infer, CONNECTIONS),
        V1_64: _http(port, own, CONNECTIONS),
        CLIENT_64: lambda seconds: asyncio.run(tasks(stage, CONNECTIONS, seconds)),
        GATEWAY_1: _http(port, infer, 1),
        CLIENT_1: lambda seconds: asyncio.run(tasks(stage, 1, seconds)),
    }
    if MLSERVER.exists():
        other = servers.enter_context(_mlserver(stage))
        sides[MLSERVER_64] = _http(other, infer, CONNECTIONS)
        sides[MLSERVER_1] = _http(other, infer, 1)
    return sides


def _uncounted(stage: Stage, servers: ExitStack) -> dict[str, Ask]:
    """A worker and a gateway on a queue of their own, which count nothing."""
    folder = stage.folder / "uncounted"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(UNCOUNTED)
    settings, own = {"PYTHONPATH": str(folder)}, replace(stage, queue="uncounted")
    servers.enter_context(own.worker(settings=settings))
    port = servers.enter_context(_gateway(own, settings))
    infer = [_request("/v2/models/pima/infer", body) for body in _bodies()]
    return {UNCOUNTED_64: _http(port, infer, CONNECTIONS)}


def _http(port: int, requests: list[bytes], connections: int) -> Ask:
    return lambda seconds: uvloop.run(callers(port, requests, connections, seconds))


async def callers(port: int, requests: list[bytes], connections: int, seconds: float) -> Rate:
    """Keep a request in flight on each of several connections."""
    loop = asyncio.get_running_loop()
    waits: list[float] = []
    supply = cycle(requests)
    begun = time.perf_counter()
    made = [
        await loop.create_connection(
            lambda: Caller(supply, begun + seconds, waits), "127.0.0.1", port
        )
        for _ in range(connections)
    ]
    await asyncio.gather(*(caller.done for _, caller in made))
    return Rate.of(waits, time.perf_counter() - begun)


def _bodies() -> list[dict[str, Any]]:
    """Records as both servers read them: a column each, for a frame."""
    return [
        {
            "parameters": {"content_type": "pd"},
            "inputs": [
                {
                    "name": name,
                    "shape": [1],
                    "datatype": "INT64" if isinstance(value, int) else "FP64",
                    "data": [value],
                }
                for name, value in one.items()
            ],
        }
        for one in records(BODIES, seed=1)
    ]


def _request(path: str, body: Any) -> bytes:
    data = orjson.dumps(body)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


@contextmanager
def _gateway(stage: Stage, settings: Mapping[str, str] | None = None) -> Iterator[int]:
    """The gateway as its command starts it, on one process; `settings` are environment variables of its own."""
    port, environment = free_port(), {**stage.environment, **(settings or {})}
    with (
        (stage.folder / f"gateway-{stage.queue}.log").open("wb") as log,
        running(scoreline("gateway", "--port", str(port)), environment, log) as child,
    ):
        _wait(port, child)
        yield port


@contextmanager
def _mlserver(stage: Stage) -> Iterator[int]:
    """MLServer with the same pipeline, and with adaptive batching."""
    port, folder = free_port(), stage.folder / "mlserver"
    folder.mkdir()
    split = load_split()
    joblib.dump(make_pipeline().fit(split.X_train, split.y_train), folder / "model.joblib")
    # Its environment has none of our code but the module that the pipeline needs.
    module = folder.joinpath(*features.__name__.split(".")).with_suffix(".py")
    module.parent.mkdir(parents=True)
    shutil.copy(features.__file__, module)
    settings = {
        "name": MODEL,
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": "./model.joblib"},
        "max_batch_size": CONNECTIONS,
        "max_batch_time": 0.005,
    }
    (folder / "model-settings.json").write_bytes(orjson.dumps(settings))
    server = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "parallel_workers": 0,
        "debug": False,
    }
    (folder / "settings.json").write_bytes(orjson.dumps(server))
    environment = stage.environment | {"PYTHONPATH": str(folder)}
    with (
        (stage.folder / "mlserver.log").open("wb") as log,
        running([str(MLSERVER), "start", str(folder)], environment, log) as child,
    ):
        _wait(port, child)
        yield port


def _wait(port: int, child: subprocess.Popen[bytes]) -> None:
    """Wait until a server scores."""
    request = _request("/v2/models/pima/infer", _bodies()[0])
    until = time.monotonic() + READY_S
    while True:
        try:
            asyncio.run(callers(port, [request], 2, 0.01))
        except (OSError, AssertionError):
            if child.poll() is not None or time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return


def _rows(found: dict[str, list[Rate]]) -> list[Row]:
    def of(who: str, figure: str) -> list[float]:
        return [getattr(rate, figure) for rate in found[who]]

    rows = [
        times(GATEWAY_64, PER_SECOND, of(GATEWAY_64, "per_second"), CLIENT_64, of(CLIENT_64, "per_second")),
        times(GATEWAY_64, PER_SECOND, of(GATEWAY_64, "per_second"), UNCOUNTED_64, of(UNCOUNTED_64, "per_second"), goal=at_least(0.99)),
        alone(GATEWAY_64, P50, of(GATEWAY_64, "p50_ms")),
        alone(GATEWAY_64, P99, of(GATEWAY_64, "p99_ms"), goal=at_most(25)),
        alone(V1_64, PER_SECOND, of(V1_64, "per_second")),
        alone(V1_64, P99, of(V1_64, "p99_ms"), goal=at_most(25)),
        minus(GATEWAY_1, P50, of(GATEWAY_1, "p50_ms"), CLIENT_1, of(CLIENT_1, "p50_ms"), goal=at_most(1.0)),
        alone(GATEWAY_1, P99, of(GATEWAY_1, "p99_ms")),
    ]  # fmt: skip
    if MLSERVER_64 in found:
        other = of(MLSERVER_64, "per_second")
        rows += [
            times(GATEWAY_64, PER_SECOND, of(GATEWAY_64, "per_second"), MLSERVER_64, other, goal=at_least(8)),
            times(V1_64, PER_SECOND, of(V1_64, "per_second"), MLSERVER_64, other, goal=at_least(8)),
            alone(MLSERVER_64, P99, of(MLSERVER_64, "p99_ms")),
            alone(MLSERVER_1, P50, of(MLSERVER_1, "p50_ms")),
        ]  # fmt: skip
    return rows
