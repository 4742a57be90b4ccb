"""FakeScoreline, for your own unit tests: no server, no worker, the real code on both sides.

    with FakeScoreline(models={"loans": FakeModel(pipeline, X_train)}) as scoreline:
        client = scoreline.client()
        assert client.predict("loans", {"income": 1800.0, "debts": 50}).value == 1

Requests go through fakeredis and are scored in this process, by pipelines that you pass in or by what an artifact store has
released. With the frame that it was fitted on, a pipeline answers as the version that `publish(pipeline, "loans", X_train)`
makes of it: the same errors, columns and types, also for files. Without it, as far as the pipeline itself tells of its columns.

    scoreline.add("loans", FakeModel(better, X_train), alias="candidate")    # version 2; then promote("loans", 2)
    with scoreline.down(), pytest.raises(ServerUnreachable):                 # or full(), without_workers(), slow(0.5)
        client.predict("loans", record, timeout=0.5)

Needs `pip install 'scoreline[worker,testing]'`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Self

from redis.exceptions import OutOfMemoryError

from scoreline_client.arguments import given_as, path_of
from scoreline_client.async_client import AsyncClient
from scoreline_client.client import Client
from scoreline_client.codes import Code
from scoreline_client.errors import MissingDependency
from scoreline_client.protocol.json_records import check_timeout
from scoreline_client.protocol.keys import GROUP, Keys, Lane
from scoreline_client.protocol.messages import Answer, Request, Status, WireError
from scoreline_client.protocol.names import PRODUCTION
from scoreline_client.settings import ClientSettings

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

IDLE_S = 0.001
CLOSE_S = 10.0
"""How long a pipeline may take to end the call that it is in when a FakeScoreline is closed."""


@dataclass(frozen=True, eq=False)
class FakeModel:
    """A fitted pipeline, and what `publish` would be given with it."""

    pipeline: Any
    X_train: pd.DataFrame | None = None
    """(rows, columns), the frame of raw records that it was fitted on."""
    y_train: Any = None
    """(rows,) or (rows, outputs): a frame's columns name the outputs."""
    optional: Collection[str] = ()
    """Columns that callers may leave out."""


class FakeRedisServer:
    """An in-memory Redis that both blocking and asyncio clients can be bound to."""

    def __init__(self) -> None:
        try:
            import fakeredis
        except ImportError as error:
            raise MissingDependency("scoreline_client.testing", "fakeredis", "testing") from error
        self._fakeredis = fakeredis
        self._server = fakeredis.FakeServer()
        self.is_full = False
        """Whether asyncio clients are refused as by a server whose memory is full."""

    def connect(self, is_connected: bool) -> None:
        """Let every command fail as if the server were away, or succeed again."""
        self._server.connected = is_connected

    def client(self) -> Any:
        """A blocking client."""
        return _without_flags(self._fakeredis.FakeRedis(server=self._server))

    def async_client(self) -> Any:
        """An asyncio client."""
        client = _without_flags(self._fakeredis.FakeAsyncRedis(server=self._server))

        run_script = client.evalsha

        async def evalsha(*arguments: Any) -> Any:
            if self.is_full:
                raise OutOfMemoryError("command not allowed when used memory > 'maxmemory'.")
            return await run_script(*arguments)

        # As `ShortPathRedis` has it: a client that was never answered gives up early.
        client.was_reached = False
        execute = client.execute_command

        async def execute_command(*arguments: Any, **options: Any) -> Any:
            # Polls: fakeredis leaves a task behind when a blocking read ends with its client.
            is_blocking = arguments[0] == "BLMPOP"
            until = time.monotonic() + (arguments[1] if is_blocking else 0)
            command = ("LMPOP", *arguments[2:]) if is_blocking else arguments
            while True:
                reply = await execute(*command, **options)
                client.was_reached = True
                if reply is not None or time.monotonic() >= until:
                    return reply
                await asyncio.sleep(IDLE_S)

        client.execute_command = execute_command
        client.evalsha = evalsha
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
        """Serve pipelines, or what a store has released.

        `models` has a fitted pipeline or a FakeModel for each name: as version 1, which `production` names.
        What is in a store must be signed by a key that is trusted here, as for any worker.

        Raises:
            UnsuitableData: a FakeModel's frame cannot be described, or is not one that its pipeline answers for.
        """
        given_as("models", models, (Mapping, NoneType), "a mapping of names to pipelines, or None")
        if store is not None:
            path_of("store", store)
        self.settings = ClientSettings()
        self._server = FakeRedisServer()
        (worker,) = entry_points(group="scoreline.inprocess", name="worker")
        try:
            make_worker = worker.load()
        except ImportError as error:
            package = error.name or "the worker"
            raise MissingDependency("scoreline_client.testing", package, "worker") from error
        self._redis = self._server.client()
        self._worker = make_worker(self._server.client(), self.settings, store=store)
        for name, model in (models or {}).items():
            self.add(name, model)
        self._worker.report()
        self._stopped = threading.Event()
        self._serves = threading.RLock()
        """Held while the worker answers, and by whoever keeps it from doing so."""
        self._clients: list[Client] = []
        self._thread = threading.Thread(target=self._run, name="fake-scoreline", daemon=True)
        self._thread.start()

    def add(
        self,
        model: str,
        pipeline: Any,
        *,
        version: int | None = None,
        alias: str | None = PRODUCTION,
    ) -> int:
        """Serve a fitted pipeline, or a FakeModel, as one more version of a model; returns its number.

        It is the next number if `version` names none; `alias` names it from now on, or None does not.

        Raises:
            UnsuitableData: a FakeModel's frame cannot be described, or is not one that its pipeline answers for.
            InvalidName: the model or the alias cannot have this name.
        """
        fake = pipeline if isinstance(pipeline, FakeModel) else FakeModel(pipeline)
        number: int = self._worker.add(
            model,
            fake.pipeline,
            version=version,
            alias=alias,
            frame=fake.X_train,
            labels=fake.y_train,
            optional=fake.optional,
        )
        return number

    def promote(self, model: str, version: int, alias: str = PRODUCTION) -> None:
        """Let an alias name another version, one that was added, as `scoreline promote` does.

        Raises:
            SettingsError: there is no such version; it is a ValueError, too.
        """
        self._worker.promote(model, version, alias)

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """The server is away and refuses connections: calls raise ServerUnreachable.

        As with a real one, a client that has reached it before waits for it until its time is up, another one for two seconds.
        """
        with self._serves:
            self._server.connect(False)
            try:
                yield
            finally:
                self._server.connect(True)

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """The server's memory is full: calls raise QueueFull, and what was queued before is answered."""
        self._server.is_full = True
        try:
            yield
        finally:
            self._server.is_full = False

    @contextlib.contextmanager
    def without_workers(self) -> Iterator[None]:
        """No worker is there: calls raise NoAnswer; what was queued meanwhile is answered afterwards."""
        with self._serves:
            self._worker.withdraw()
            yield

    @contextlib.contextmanager
    def slow(self, seconds: float) -> Iterator[None]:
        """Each batch takes so many seconds longer: calls with less time raise NoAnswer."""
        self._worker.slow(check_timeout(seconds, "seconds"))
        try:
            yield
        finally:
            self._worker.slow(0.0)

    def client(self) -> Client:
        """A client whose requests are answered here."""
        client = Client(settings=self.settings, connection=self._server.async_client)
        self._clients.append(client)
        return client

    def async_client(self) -> AsyncClient:
        """The same for asyncio; close it yourself, on its loop."""
        return AsyncClient(settings=self.settings, connection=self._server.async_client)

    def __repr__(self) -> str:
        names = sorted(f"{name} {version}" for name, version in self._worker.served().items())
        return f"<FakeScoreline: {', '.join(names) or 'no model'}>"

    def close(self) -> None:
        """Close the clients and stop answering.

        Raises:
            TimeoutError: a pipeline is still in a call after ten seconds; its thread is left behind.
        """
        for client in self._clients:
            client.close()
        self._stopped.set()
        self._worker.close()
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
            with self._serves:
                try:
                    self._worker.report()
                    is_idle = not self._worker.step()
                # Whatever it is, callers learn it at once instead of waiting until their time is up.
                except Exception as error:
                    is_idle = True
                    if failure != repr(error):
                        failure = repr(error)
                        logger.exception(
                            "fake_worker_failed: all requests are refused with the reason"
                        )
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
