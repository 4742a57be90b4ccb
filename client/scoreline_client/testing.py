"""FakeScoreline, for your own unit tests: no server, no worker, the real code on both sides.

    with FakeScoreline(models={"pima": fitted_pipeline}) as scoreline:
        client = scoreline.client()
        assert client.predict("pima", {"preg": 6, …}).value == 1

Requests go through fakeredis and are scored in this process, by a pipeline that you pass in or by
what an artifact store has released. A pipeline that is passed in answers as far as it says what it is: names and
types of several outputs, and probabilities without `classes_`, are found out by `publish`. Needs `pip install 'scoreline[worker,testing]'`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Self

from scoreline_client.async_client import AsyncClient
from scoreline_client.client import Client
from scoreline_client.codes import Code
from scoreline_client.errors import MissingDependency
from scoreline_client.protocol.keys import GROUP, Keys, Lane
from scoreline_client.protocol.messages import Answer, Request, Status, WireError
from scoreline_client.settings import ClientSettings

logger = logging.getLogger(__name__)

IDLE_S = 0.001
CLOSE_S = 10.0
"""How long a pipeline may take to end the call that it is in when a FakeScoreline is closed."""


class FakeRedisServer:
    """An in-memory Redis that both blocking and asyncio clients can be bound to."""

    def __init__(self) -> None:
        try:
            import fakeredis
        except ImportError as error:
            raise MissingDependency("scoreline_client.testing", "fakeredis", "testing") from error
        self._fakeredis = fakeredis
        self._server = fakeredis.FakeServer()

    def client(self) -> Any:
        """A blocking client."""
        return _without_flags(self._fakeredis.FakeRedis(server=self._server))

    def async_client(self) -> Any:
        """An asyncio client."""
        client = _without_flags(self._fakeredis.FakeAsyncRedis(server=self._server))

        async def blmpop(block_s: float, *keys: Any, **options: Any) -> Any:
            # Polls: fakeredis leaves a task behind when a blocking read ends with its client.
            for _ in range(int(block_s / IDLE_S)):
                if (popped := await client.lmpop(*keys, **options)) is not None:
                    return popped
                await asyncio.sleep(IDLE_S)
            return None

        client.blmpop = blmpop
        return client


def _without_flags(client: Any) -> Any:
    """The client, which takes the first line off scripts where it holds flags: fakeredis knows none."""

    def body(script: str | bytes) -> str:
        text = script.decode() if isinstance(script, bytes) else script
        return text.partition("\n")[2] if text.startswith("#!") else text

    load, register = client.script_load, client.register_script
    client.script_load = lambda script: load(body(script))
    client.register_script = lambda script: register(body(script))
    return client


class FakeScoreline:
    """Clients bound to fakeredis, and a worker in a thread of this process that answers them."""

    def __init__(
        self, models: Mapping[str, Any] | None = None, *, store: str | Path | None = None
    ) -> None:
        """Serve fitted pipelines by name, each as version 1, or what a store has released.

        What is in a store must be signed by a key that is trusted here, as for any worker.
        """
        self.settings = ClientSettings()
        self._server = FakeRedisServer()
        (worker,) = entry_points(group="scoreline.inprocess", name="worker")
        try:
            make_worker = worker.load()
        except ImportError as error:
            package = error.name or "the worker"
            raise MissingDependency("scoreline_client.testing", package, "worker") from error
        self._worker = make_worker(self._server.client(), self.settings, models, store or None)
        self._redis = self._server.client()
        self._stopped = threading.Event()
        self._clients: list[Client] = []
        self._thread = threading.Thread(target=self._run, name="fake-scoreline", daemon=True)
        self._thread.start()

    def client(self) -> Client:
        """A client whose requests are answered here."""
        client = Client(settings=self.settings, connection=self._server.async_client)
        self._clients.append(client)
        return client

    def async_client(self) -> AsyncClient:
        """The same for asyncio; close it yourself, on its loop."""
        return AsyncClient(settings=self.settings, connection=self._server.async_client)

    def close(self) -> None:
        """Close the clients and stop answering.

        Raises:
            TimeoutError: a pipeline is still in a call after ten seconds; its thread is left behind.
        """
        for client in self._clients:
            client.close()
        self._stopped.set()
        self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            raise TimeoutError(
                f"the fake worker has not stopped within {CLOSE_S:g} s: a pipeline is still in its call"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        failure = ""
        while not self._stopped.is_set():
            try:
                is_idle = not self._worker.step()
            # Whatever it is, callers learn it at once instead of waiting until their time is up.
            except Exception as error:
                is_idle = True
                if failure != repr(error):
                    failure = repr(error)
                    logger.exception("fake_worker_failed: all requests are refused with the reason")
                self._refuse(f"the fake worker failed: {type(error).__name__}: {error}")
            if is_idle:
                time.sleep(IDLE_S)

    def _refuse(self, message: str) -> None:
        """Answer all requests that are queued or being scored with an error."""
        redis, keys = self._redis, Keys(self.settings.queue)
        error = {"code": Code.INTERNAL.value, "message": message}
        for lane in Lane:
            for entry, fields in redis.xrange(keys.lane(lane)):
                with contextlib.suppress(WireError):
                    request = Request.decode(fields)
                    data = Answer(id=request.id, status=Status.ERROR, error=error).encode()
                    redis.set(keys.result(request.id), data, nx=True, ex=self.settings.result_ttl_s)
                    if request.reply_to:
                        redis.rpush(keys.reply(request.reply_to), data)
                redis.xack(keys.lane(lane), GROUP, entry)
                redis.xdel(keys.lane(lane), entry)
