"""A caller's connection: its scripts, what it can tell of the service, and errors that are ours."""

from __future__ import annotations

from collections.abc import Coroutine
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import OutOfMemoryError, RedisError

from scoreline_client.errors import QueueFull, ScorelineError, ServerUnreachable
from scoreline_client.fleet import ProcessReport
from scoreline_client.protocol.keys import Keys, Lane
from scoreline_client.protocol.messages import Answer, WireError
from scoreline_client.settings import ClientSettings
from scoreline_client.transport.direct import DirectRedis

READ_BLOCK_S = 5.0
RETRY_AFTER_S = 1.0


class Connection:
    """The server as a caller sees it."""

    def __init__(self, settings: ClientSettings, connection: redis.asyncio.Redis | None = None):
        if connection is None:
            settings.check_redis_url()
        self.settings = settings
        self.keys = Keys(settings.queue)
        self._given = connection
        self._redis: Any = None

    @property
    def url(self) -> str:
        """The server's address, without a password."""
        parts = urlsplit(self.settings.redis_url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"

    @property
    def redis(self) -> Any:
        """The connection for everything but the blocking read."""
        if self._redis is None:
            self._redis = self._given or DirectRedis.from_url(
                self.settings.redis_url,
                socket_timeout=DirectRedis.timeout_s,
                socket_connect_timeout=5,
                socket_keepalive=True,
                # Retrying is ours to do: it must keep a request's id and its deadline.
                retry=Retry(NoBackoff(), 0),
            )
            self._submit = self._redis.register_script(_script("submit.lua"))
            self._cancel = self._redis.register_script(_script("cancel.lua"))
            self._renew_job = self._redis.register_script(_script("renew_job.lua"))
        return self._redis

    async def process_count(self) -> int:
        """How many worker processes score; a main process whose children do is none of them."""
        return sum(map(_scores, await self._reports()))

    async def diagnose(self) -> str:
        """Why no answer may have come: one sentence for people.

        Raises:
            ServerUnreachable: Redis does not answer, which is why.
        """
        reports = await self._reports()
        processes = sum(map(_scores, reports))
        lanes = [self.keys.lane(lane) for lane in Lane]
        backlog = sum([await self.guard(self.redis.xlen(lane)) for lane in lanes])
        if reports and not processes:
            return (
                f"no worker process is ready to score for queue {self.settings.queue!r}: "
                "they are being started; `scoreline status` says more"
            )
        if not processes:
            return (
                f"no worker serves queue {self.settings.queue!r}. "
                "Start one: celery -A scoreline_tasks worker"
            )
        return (
            f"{processes} worker processes serve queue {self.settings.queue!r} and "
            f"{backlog} requests wait; `scoreline status` says more"
        )

    async def _reports(self) -> list[bytes]:
        names = await self.guard(self.redis.zrange(self.keys.processes, 0, -1))
        if not names:
            return []
        keys = [self.keys.process(name.decode()) for name in names]
        reports = await self.guard(self.redis.mget(keys))
        return [one for one in reports if one is not None]

    async def fetch(self, request_id: str) -> Answer | None:
        """The stored result of a request, or None."""
        data = await self.guard(self.redis.get(self.keys.result(request_id)))
        return None if data is None else Answer.decode(data)

    async def cancel(self, request_id: str, answer: Answer, record: bytes) -> bool:
        """Give a job the answer that it was cancelled, unless it has one."""
        stream, _, entry = record.decode().rpartition(" ")
        _ = self.redis
        return bool(
            await self.guard(
                self._cancel(
                    keys=[self.keys.result(request_id), stream, self.keys.attempts],
                    args=[answer.encode(), self.settings.result_ttl_s * 1000, entry, request_id],
                )
            )
        )

    async def guard(self, operation: Coroutine[Any, Any, Any]) -> Any:
        """Await a Redis operation; what goes wrong there becomes one of our errors."""
        try:
            return await operation
        except RedisError as error:
            raise self.explain(error) from error

    def explain(self, error: RedisError) -> ScorelineError:
        """Which of our errors one of Redis is."""
        if isinstance(error, OutOfMemoryError) or "OOM" in str(error):
            return self.queue_full("the server is out of memory")
        return ServerUnreachable(self.url, str(error) or type(error).__name__)

    def queue_full(self, reason: str, room: int = 0) -> QueueFull:
        """The error for a queue that takes no more."""
        return QueueFull(self.settings.queue, reason, RETRY_AFTER_S, room)


def _scores(report: bytes) -> bool:
    try:
        return ProcessReport.decode(report).scores
    except WireError:
        return True  # a worker of another release; it is alive, and main processes are few


def _script(name: str) -> str:
    return resources.files("scoreline_client.transport").joinpath(name).read_text()
