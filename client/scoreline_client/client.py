"""Client: ask for predictions from ordinary code, from any number of threads."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import redis.asyncio

from scoreline_client.async_client import AsyncClient
from scoreline_client.jobs import Job
from scoreline_client.options import NO_OPTIONS, RequestOptions
from scoreline_client.predictions import Prediction
from scoreline_client.protocol.json_records import check_model, check_timeout, encode_record
from scoreline_client.settings import ClientSettings

if TYPE_CHECKING:
    import pandas as pd

    from scoreline_client.files.options import BulkOptions
    from scoreline_client.files.profile import FileReport
    from scoreline_client.files.progress import BulkProgress, ScoreSummary
    from scoreline_client.files.rows import ScoredRow

CLOSED_AFTER_S = 30.0
"""Seconds over its time after which a caller knows that its client was closed under it."""
LOOK_UP_S = 1.0
STOP_WAIT_S = 5.0
"""Seconds that interrupted work may take to leave things in order."""

_T = TypeVar("_T")


class _Call:
    """A thread that waits for a prediction: what a future is, without what nobody needs here."""

    __slots__ = ("_error", "_is_done", "_prediction", "_waits")

    _error: BaseException | None
    _prediction: Prediction

    def __init__(self) -> None:
        self._is_done = False
        self._error = None
        self._waits = threading.Lock()
        self._waits.acquire()

    def result(self, timeout_s: float) -> Prediction:
        """Wait; that it ends in time is the event loop's affair, as long as that one runs."""
        until = time.monotonic() + timeout_s + CLOSED_AFTER_S
        # In slices: Python does not wake for a Ctrl-C that comes just before it goes to sleep.
        while not self._waits.acquire(timeout=LOOK_UP_S):
            if time.monotonic() > until:
                raise concurrent.futures.CancelledError
        if self._error is not None:
            raise self._error
        return self._prediction

    def done(self) -> bool:
        return self._is_done

    def cancel(self) -> None:
        self.set_exception(concurrent.futures.CancelledError())

    def set_result(self, prediction: Prediction, /) -> None:
        self._prediction = prediction
        self._end()

    def set_exception(self, exception: BaseException, /) -> None:
        self._error = exception
        self._end()

    def _end(self) -> None:
        self._is_done = True
        self._waits.release()


class _Loop:
    """An AsyncClient on an event loop in a daemon thread of its own."""

    def __init__(
        self, settings: ClientSettings, connection: Callable[[], redis.asyncio.Redis] | None
    ) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        self.client = AsyncClient(
            settings=settings, connection=connection() if connection else None
        )
        self._calls: deque[tuple[str, bytes, bytes, float, _Call]] = deque()
        self._woken = False
        self._thread = threading.Thread(target=self._run, name="scoreline-client", daemon=True)
        self._thread.start()

    def ask(self, model: str, record: bytes, options: bytes, timeout_s: float) -> Prediction:
        """Ask from any thread. All who do before the loop wakes up share one wake-up."""
        call = _Call()
        self._calls.append((model, record, options, timeout_s, call))
        if not self._woken:
            self._woken = True
            self.loop.call_soon_threadsafe(self._take_calls)
        return call.result(timeout_s)

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do asynchronous work on the loop and wait for it; interrupted, wait until it has stopped."""
        ended = threading.Event()
        future = asyncio.run_coroutine_threadsafe(_telling(work, ended), self.loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            ended.wait(STOP_WAIT_S)
            raise

    def close(self) -> None:
        """Close the client and end the thread."""
        if not self.loop.is_closed():
            self.run(self.client.close())
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()

    def _take_calls(self) -> None:
        # Cleared before the calls are taken: one that comes now wakes us again.
        self._woken = False
        while self._calls:
            self.client.singles.ask(*self._calls.popleft())


async def _telling(work: Coroutine[Any, Any, _T], ended: threading.Event) -> _T:
    try:
        return await work
    finally:
        ended.set()


async def _next(parts: AsyncGenerator[_T]) -> _T | None:
    return await anext(parts, None)


class Client:
    """Asks for predictions; one for a whole program, from as many threads as it has.

    Arguments that are not given come from the environment: `SCORELINE_REDIS_URL`,
    `SCORELINE_QUEUE` and so on, see ClientSettings. After a fork, the child's client starts anew by
    itself.
    """

    def __init__(
        self,
        redis_url: str | None = None,
        *,
        queue: str | None = None,
        settings: ClientSettings | None = None,
        connection: Callable[[], redis.asyncio.Redis] | None = None,
    ) -> None:
        self.settings = settings or ClientSettings.from_environment(
            redis_url=redis_url, queue=queue
        )
        self._connection = connection
        self._lock = threading.Lock()
        self._running: _Loop | None = None
        self._closer: weakref.finalize[..., Client] | None = None

    def predict(
        self,
        model: str,
        record: Mapping[str, Any],
        *,
        timeout: float = 5.0,
        options: RequestOptions = NO_OPTIONS,
    ) -> Prediction:
        """See AsyncClient.predict."""
        body = encode_record(record)
        asked = options.encode_options()
        return self._background().ask(check_model(model), body, asked, check_timeout(timeout))

    def predict_many(
        self,
        model: str,
        records: Iterable[Mapping[str, Any]],
        *,
        timeout: float = 30.0,
        options: RequestOptions = NO_OPTIONS,
    ) -> list[Prediction]:
        """See AsyncClient.predict_many."""
        work = self._client.predict_many(model, records, timeout=timeout, options=options)
        return self.run(work)

    def submit(
        self, model: str, records: Iterable[Mapping[str, Any]], *, expires: float = 3600.0
    ) -> Job:
        """See AsyncClient.submit."""
        return Job(self, self.run(self._client.submit(model, records, expires=expires)))

    def job(self, job_id: str) -> Job:
        """See AsyncClient.job."""
        return Job(self, self._client.job(job_id))

    def predict_frame(
        self, model: str, frame: pd.DataFrame, *, timeout: float = 60.0
    ) -> pd.DataFrame:
        """See AsyncClient.predict_frame."""
        return self.run(self._client.predict_frame(model, frame, timeout=timeout))

    def score_file(
        self,
        model: str,
        source: str | Path,
        target: str | Path,
        *,
        options: BulkOptions | None = None,
        progress: Callable[[BulkProgress], None] | None = None,
    ) -> ScoreSummary:
        """See AsyncClient.score_file; `progress` is called from the client's own thread."""
        work = self._client.score_file(model, source, target, options=options, progress=progress)
        return self.run(work)

    score_csv = score_file

    def score_rows(
        self, model: str, source: str | Path, *, options: BulkOptions | None = None
    ) -> Iterator[ScoredRow]:
        """See AsyncClient.score_rows."""
        parts = self._client.scored_parts(model, source, options=options)
        try:
            while (part := self.run(_next(parts))) is not None:
                yield from part
        finally:
            self.run(parts.aclose())

    def check_file(
        self,
        model: str,
        source: str | Path,
        *,
        options: BulkOptions | None = None,
        progress: Callable[[int, int, int | None], None] | None = None,
    ) -> FileReport:
        """See AsyncClient.check_file; `progress` is called from the client's own thread."""
        work = self._client.check_file(model, source, options=options, progress=progress)
        return self.run(work)

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do asynchronous work of this client and wait for it."""
        return self._background().run(work)

    def close(self) -> None:
        """Close the connections; a closed client opens them again when it is used."""
        with self._lock:
            running, self._running = self._running, None
        if running is not None and running.pid == os.getpid():
            running.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _client(self) -> AsyncClient:
        return self._background().client

    def _background(self) -> _Loop:
        running = self._running
        if running is not None and running.pid == os.getpid():
            return running
        with self._lock:
            if self._running is None or self._running.pid != os.getpid():
                self._running = _Loop(self.settings, self._connection)
                self._closer = weakref.finalize(self, self._running.close)
            return self._running
