"""Jobs: handles of submitted requests, whose results are fetched later, perhaps by another process."""

from __future__ import annotations

import asyncio
import contextlib
import time
from enum import StrEnum
from typing import TYPE_CHECKING

from redis.exceptions import ResponseError

from scoreline_client.codes import Code
from scoreline_client.errors import JobLost, NoAnswer
from scoreline_client.predictions import Prediction
from scoreline_client.protocol.json_records import check_timeout, predictions_of, raise_refusal
from scoreline_client.protocol.keys import GROUP
from scoreline_client.protocol.messages import Answer, Status
from scoreline_client.transport.connection import Script

if TYPE_CHECKING:
    from scoreline_client.async_client import AsyncClient
    from scoreline_client.client import Client
    from scoreline_client.transport.dispatcher import Transport

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.02, 0.5
"""Pauses between two checks for a job's result, where no worker tells; each is half as long again as the last."""
LAST_LOOK_S = 0.1
"""How long the last check for the result may take, which is made when the time is up."""


class JobStatus(StrEnum):
    """Where a job is."""

    QUEUED = "queued"
    """No worker has taken it yet."""
    RUNNING = "running"
    """A worker has it."""
    DONE = "done"
    """Its result is there; single records may still have errors."""
    FAILED = "failed"
    """It could not be scored as a whole; `result()` raises why."""
    CANCELLED = "cancelled"
    """It was cancelled before it was answered."""
    EXPIRED = "expired"
    """Its time was up before a worker took it."""


_STATUS_BY_CODE: dict[str, JobStatus] = {
    Code.CANCELLED: JobStatus.CANCELLED,
    Code.EXPIRED: JobStatus.EXPIRED,
}


class AsyncJob:
    """A submitted request. Another process attaches to it by its id."""

    def __init__(self, client: AsyncClient, job_id: str, model: str | None = None) -> None:
        """`model` is what it was submitted to, where that is known: the server keeps no more than the request."""
        self.id = job_id
        self._client = client
        self._model = model

    def __repr__(self) -> str:
        return f"<job {self.id} of queue {self._client.settings.queue}>"

    @property
    def _transport(self) -> Transport:
        return self._client.transport

    async def status(self, timeout: float = 5.0) -> JobStatus:  # noqa: ASYNC109
        """Where the job is now.

        Raises:
            JobLost: the server knows nothing of it.
            ServerUnreachable: Redis does not answer within `timeout` seconds.
        """
        return await self._transport.repeat(self._status, check_timeout(timeout))

    async def _status(self) -> JobStatus:
        answer = await self._answer()
        if answer is not None:
            if answer.status is Status.OK:
                return JobStatus.DONE
            return _STATUS_BY_CODE.get((answer.error or {}).get("code", ""), JobStatus.FAILED)
        stream, _, entry = (await self._record()).decode().rpartition(" ")
        redis = self._transport.redis
        # A group exists from the first worker on; without a group nothing can be running.
        if not await redis.exists(stream):
            raise JobLost(self.id)
        try:
            pending = await redis.xpending_range(stream, GROUP, entry, entry, 1)
        except ResponseError as error:
            if "NOGROUP" in str(error):
                return JobStatus.QUEUED
            raise
        if pending:
            return JobStatus.RUNNING
        # Its record outlives its result.
        is_lost = Script(redis, "is_lost.lua")
        if await is_lost(keys=[stream, self._transport.keys.result(self.id)], args=[GROUP, entry]):
            raise JobLost(self.id)
        return JobStatus.QUEUED

    async def result(self, timeout: float = 60.0) -> list[Prediction]:  # noqa: ASYNC109
        """Wait for the predictions, in the records' order; a bad record has an `.error`.

        Raises:
            NoAnswer: there is no result after `timeout` seconds.
            JobLost: the server knows nothing of the job.
            JobCancelled, RequestExpired, RequestRefused: it has ended without predictions.
            ServerUnreachable: Redis does not answer in that time.
        """
        deadline = time.monotonic() + check_timeout(timeout)
        pause_s = FIRST_PAUSE_S

        async def look() -> Answer | None:
            answer = await self._answer()
            if answer is None:
                await self._record()
            return answer

        with self._transport.stored_event(self.id) as is_stored:
            while True:
                left_s = max(LAST_LOOK_S, deadline - time.monotonic())
                answer = await self._transport.repeat(look, left_s)
                if answer is not None:
                    if self._model and (answer.error or {}).get("code") == Code.UNKNOWN_MODEL:
                        answer = await self._transport.in_words(self._model, answer)
                    # RequestExpired, not NoAnswer: whoever waits again after NoAnswer would wait in vain.
                    raise_refusal(answer, is_awaited=False)
                    return predictions_of(answer)
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise NoAnswer(self.id, timeout, await self._transport.diagnose())
                # Workers of earlier releases send no note, and a note goes to the client that submitted the job.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(pause_s, left_s)):
                        await is_stored.wait()
                is_stored.clear()
                pause_s = min(pause_s * 1.5, LONGEST_PAUSE_S)

    async def cancel(self, timeout: float = 5.0) -> bool:  # noqa: ASYNC109
        """Cancel the job; False if it was answered before.

        Raises:
            JobLost: the server knows nothing of it.
            ServerUnreachable: Redis does not answer within `timeout` seconds; the job may be cancelled all the
                same, and cancelling it again is safe.
        """
        error = {"code": Code.CANCELLED.value, "message": f"job {self.id} was cancelled"}
        answer = Answer(id=self.id, status=Status.ERROR, error=error)
        transport = self._transport
        script = Script(transport.redis, "cancel.lua")
        tries = 0

        async def cancel() -> bool:
            nonlocal tries
            tries += 1
            stream, _, entry = (await self._record()).decode().rpartition(" ")
            is_cancelled = await script(
                keys=[transport.keys.result(self.id), stream, transport.keys.attempts],
                args=[answer.encode(), transport.settings.result_ttl_s * 1000, entry, self.id],
            )
            # The reply to the first attempt may have got lost.
            return bool(is_cancelled) or (tries > 1 and await self._status() is JobStatus.CANCELLED)

        return await transport.repeat(cancel, check_timeout(timeout))

    async def _answer(self) -> Answer | None:
        transport = self._transport
        data = await transport.redis.get(transport.keys.result(self.id))
        return None if data is None else Answer.decode(data)

    async def _record(self) -> bytes:
        record = await self._transport.redis.get(self._transport.keys.job(self.id))
        if record is None:
            raise JobLost(self.id)
        return bytes(record)


class Job:
    """An AsyncJob for callers without an event loop."""

    def __init__(self, client: Client, job_id: str, model: str | None = None) -> None:
        """`model` as for an AsyncJob."""
        self.id = job_id
        self._client = client
        self._model = model

    @property
    def _job(self) -> AsyncJob:
        return self._client.async_job(self.id, self._model)

    def __repr__(self) -> str:
        return f"<job {self.id} of queue {self._client.settings.queue}>"

    def status(self, timeout: float = 5.0) -> JobStatus:
        """Where the job is now.

        Raises:
            JobLost: the server knows nothing of it.
            ServerUnreachable: Redis does not answer within `timeout` seconds.
        """
        return self._client.run(self._job.status(timeout))

    def result(self, timeout: float = 60.0) -> list[Prediction]:
        """Wait for the predictions, in the records' order; a bad record has an `.error`.

        Raises:
            NoAnswer: there is no result after `timeout` seconds.
            JobLost: the server knows nothing of the job.
            JobCancelled, RequestExpired, RequestRefused: it has ended without predictions.
            ServerUnreachable: Redis does not answer in that time.
        """
        return self._client.run(self._job.result(timeout))

    def cancel(self, timeout: float = 5.0) -> bool:
        """Cancel the job; False if it was answered before.

        Raises:
            JobLost: the server knows nothing of it.
            ServerUnreachable: Redis does not answer within `timeout` seconds; the job may be cancelled all the
                same, and cancelling it again is safe.
        """
        return self._client.run(self._job.cancel(timeout))
