"""Client: predictions for code without an event loop, from any number of threads."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import (
    AsyncGenerator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import redis.asyncio

from scoreline_client.arguments import options_of
from scoreline_client.async_client import AsyncClient, queue_and_server, settings_of
from scoreline_client.dead_letters import DeadLetter
from scoreline_client.descriptions import ModelDescription
from scoreline_client.jobs import AsyncJob, Job
from scoreline_client.options import NO_OPTIONS, BulkOptions, RequestOptions
from scoreline_client.predictions import Prediction
from scoreline_client.protocol.json_records import (
    check_model,
    check_records,
    check_timeout,
    encode_record,
)
from scoreline_client.protocol.keys import Lane
from scoreline_client.protocol.messages import Answer, check_id
from scoreline_client.service import ServiceStatus
from scoreline_client.settings import ClientSettings
from scoreline_client.tracing import Tracing, traced

if TYPE_CHECKING:
    import pandas as pd

    from scoreline_client.files.chunks import ScoredRow
    from scoreline_client.files.profile import FileReport
    from scoreline_client.files.run import BulkProgress, ScoreSummary

CLOSED_AFTER_S = 30.0
"""Seconds after its timeout until a caller knows that another thread has closed its client."""
WAKE_EVERY_S = 1.0
STOP_WAIT_S = 5.0
"""Seconds that interrupted work may take to clean up."""
CANCEL_AGAIN_S = 0.2
"""Seconds after which work that continues although it was cancelled is cancelled once more."""

_T = TypeVar("_T")


class ThreadFuture:
    """The prediction that a thread waits for. One lock is enough for one thread; a Future costs more."""

    __slots__ = ("_error", "_is_done", "_prediction", "_waits")

    _error: BaseException | None
    _prediction: Prediction

    def __init__(self) -> None:
        self._is_done = False
        self._error = None
        self._waits = threading.Lock()
        self._waits.acquire()

    def result(self, timeout_s: float) -> Prediction:
        """Wait for the prediction. The event loop ends the wait in time, for as long as it runs."""
        until = time.monotonic() + timeout_s + CLOSED_AFTER_S
        # In slices: Python does not wake for a Ctrl-C that comes just before it goes to sleep.
        while not self._waits.acquire(timeout=WAKE_EVERY_S):
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


_inherited: list[_Loop] = []
"""Event loops of a parent process. They are kept, since collecting them would close what is the parent's
too: a forked process shares its parent's sockets and selector."""


class _Loop:
    """An AsyncClient on an event loop in a daemon thread of its own."""

    def __init__(
        self, settings: ClientSettings, connection: Callable[[], redis.asyncio.Redis] | None
    ) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        self.client = AsyncClient(settings=settings, connection=connection)
        self._tracing = Tracing.of(settings)
        self._calls: deque[tuple[str, bytes, bytes, float, ThreadFuture, str]] = deque()
        self._woken = False
        self._work: set[asyncio.Task[Any]] = set()
        self._generators: set[AsyncGenerator[Any]] = set()
        self._thread = threading.Thread(target=self._run, name="scoreline-client", daemon=True)
        self._thread.start()

    def ask(self, model: str, record: bytes, options: bytes, timeout_s: float) -> Prediction:
        """Ask from any thread. All calls before the loop wakes up share one wake-up."""
        call = ThreadFuture()
        with traced(self._tracing, Lane.ONLINE, model) as trace:
            self._calls.append((model, record, options, timeout_s, call, trace))
            if not self._woken:
                self._woken = True
                with contextlib.suppress(RuntimeError):  # it is closed: the call is cancelled
                    self.loop.call_soon_threadsafe(self._take_calls)
                if self.loop.is_closed():
                    self._cancel_calls()
            return call.result(timeout_s)

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do asynchronous work on the loop and wait for it; interrupted, wait until it has stopped."""
        ended = threading.Event()
        future = asyncio.run_coroutine_threadsafe(self._do(work, ended), self.loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            ended.wait(STOP_WAIT_S)
            raise

    def iterate(self, chunks: AsyncGenerator[list[_T]]) -> Iterator[_T]:
        """Each item of each chunk. The generator of chunks is closed with the iterator, or with the loop."""
        self._generators.add(chunks)
        try:
            while True:
                if self.pid != os.getpid():
                    raise RuntimeError("a forked process cannot read on in its parent's rows")
                if chunks not in self._generators:
                    raise RuntimeError("the client was closed before all rows were read")
                chunk = self.run(_next(chunks))
                if chunk is None:
                    return
                yield from chunk
        finally:
            # A forked process has no thread to do it, and the parent continues by itself.
            if chunks in self._generators and self.pid == os.getpid():
                self._generators.discard(chunks)
                self.run(chunks.aclose())

    def close(self) -> None:
        """Close the client and end the thread; in a forked process both are the parent's."""
        if self.pid != os.getpid():
            _inherited.append(self)
        elif not self.loop.is_closed():
            self.run(self._end())
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()
            self._cancel_calls()

    def _cancel_calls(self) -> None:
        """End the waits of threads that called while the loop ended."""
        # Before the calls are taken: a call that comes now cancels those that come too late for it.
        self._woken = False
        with contextlib.suppress(IndexError):
            while True:
                self._calls.popleft()[4].cancel()

    async def _do(self, work: Coroutine[Any, Any, _T], ended: threading.Event) -> _T:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - this is a coroutine
        self._work.add(task)
        try:
            return await work
        finally:
            self._work.discard(task)
            ended.set()

    async def _end(self) -> None:
        """End the work that other threads wait for: once the loop has stopped they would wait for ever."""
        own = asyncio.current_task()
        while others := [task for task in self._work if task is not own]:
            for task in others:
                task.cancel()
            await asyncio.wait(others, timeout=CANCEL_AGAIN_S)
        generators, self._generators = self._generators, set()
        for generator in generators:
            await generator.aclose()
        await self.client.close()

    def _take_calls(self) -> None:
        # Cleared before the calls are taken: a call that comes now wakes the loop again.
        self._woken = False
        submit = self.client.coalescer.submit
        while self._calls:
            submit(*self._calls.popleft())


async def _next(generator: AsyncGenerator[_T]) -> _T | None:
    return await anext(generator, None)


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
        self.settings = settings_of(redis_url, queue, settings, connection)
        self._connection = connection
        self._locks: dict[int, threading.Lock] = {}
        """By process: a fork copies a lock that another thread of the parent holds just then, locked for ever."""
        self._running: _Loop | None = None
        self._closer: weakref.finalize[..., Client] | None = None

    def __repr__(self) -> str:
        return f"<Client of {queue_and_server(self.settings, self._connection)}>"

    def predict(
        self,
        model: str,
        record: Mapping[str, Any],
        *,
        timeout: float = 5.0,
        options: RequestOptions | Mapping[str, Any] | None = NO_OPTIONS,
    ) -> Prediction:
        """Predict one record: a mapping of column names to values, or a row of a pandas frame.

        `options` decide about values that training did not have, and whether text is read as numbers:
        `RequestOptions(unseen=Policy.WARN, out_of_range=Policy.ERROR, coerce=True)`, or a mapping, `{"coerce": True}`.

        Raises:
            RecordRejected: the record cannot be scored; names column and value.
            UnknownModel: no such model, alias or version.
            NoAnswer: none within `timeout` seconds. Where a worker was the first to see that they were over, it is a
                RequestExpired, too.
            QueueFull: the request was not accepted.
            ServerUnreachable: it was not either, unless the error has its `request_id`.
            SettingsError: `timeout` is negative, infinite or no number, or another argument is not what it must be; as
                in all other methods.
        """
        body = encode_record(record)
        encoded_options = NO_OPTIONS.encoded_options
        if options is not NO_OPTIONS:
            encoded_options = options_of(RequestOptions, options).encoded_options
        return self._background().ask(
            check_model(model), body, encoded_options, check_timeout(timeout)
        )

    def predict_many(
        self,
        model: str,
        records: Iterable[Mapping[str, Any]],
        *,
        timeout: float = 30.0,
        options: RequestOptions | Mapping[str, Any] | None = NO_OPTIONS,
    ) -> list[Prediction]:
        """Predict records, in their order; a bad record has an `.error`, and the others their predictions.

        `options` are those of `predict`.
        Many records travel as several requests, all scored by the version that answered the first.

        Raises:
            UnknownModel, NoAnswer, QueueFull, ServerUnreachable: as for `predict`.
            EmptyRequest: there are no records.
        """
        # Here, and not on the loop: an iterator that takes its time would hold up all other callers.
        listed = check_records(records)
        work = self._client.predict_many(model, listed, timeout=timeout, options=options)
        return self.run(work)

    def submit(
        self,
        model: str,
        records: Iterable[Mapping[str, Any]],
        *,
        expires: float = 3600.0,
        timeout: float = 30.0,
        job_id: str | None = None,
    ) -> Job:
        """Queue records as one job, whose result can be fetched later.

        `expires` is how many seconds it may wait for a worker, `timeout` how many seconds the server may take
        to accept it. Where it is not certain whether it did, `ServerUnreachable.request_id` is the job's id:
        submitting it again with this `job_id` queues it once, whether it was accepted before or not. A program
        may also choose the id itself (32 hexadecimal digits), and submit again after a crash of its own.

        Raises:
            NotReplicated: fewer replicas have it than SCORELINE_DURABLE_REPLICAS asks for.
            PayloadTooLarge: the records are more than one request may hold.
            EmptyRequest, QueueFull, ServerUnreachable: as for `predict`.
            UnknownModel: `model` is no name of a model. That there is none of this name is said by the job's result.
            SettingsError: `expires` or `timeout` is negative, over 1e9, or no number, or `job_id` is no id.
        """
        work = self._client.submit(
            model, check_records(records), expires=expires, timeout=timeout, job_id=job_id
        )
        return Job(self, self.run(work).id, model)

    def job(self, job_id: str) -> Job:
        """Attach to a job by its id, from any process.

        Raises:
            SettingsError: it is no id. Whether there is such a job, its methods say.
        """
        return Job(self, check_id(job_id))

    def async_job(self, job_id: str, model: str | None = None) -> AsyncJob:
        """A job as this process's event loop knows it: a Job outlives a fork, and `close`."""
        return AsyncJob(self._client, job_id, model)

    def predict_frame(
        self, model: str, frame: pd.DataFrame, *, timeout: float = 60.0
    ) -> pd.DataFrame:
        """Predict the rows of a data frame.

        Returns a frame with the same index and the columns `prediction`, `probability_<class>` for
        each class, and `error` (missing where there is none). A version with several outputs answers
        with `prediction_<output>` for each, and `probability_<output>_<class>`. Whole numbers stay whole
        beside rows with an error: their column is nullable (`Int64`).

        Raises:
            MissingDependency: pandas or pyarrow is not installed.
            RequestRefused: a column is missing, duplicate, or of a type that cannot be sent, or it is no frame.
            UnknownModel, NoAnswer, QueueFull, ServerUnreachable: as for `predict`.
        """
        return self.run(self._client.predict_frame(model, frame, timeout=timeout))

    def score_file(
        self,
        model: str,
        source: str | Path,
        target: str | Path,
        *,
        options: BulkOptions | Mapping[str, Any] | None = None,
        progress: Callable[[BulkProgress], None] | None = None,
        owner: str | None = None,
    ) -> ScoreSummary:
        """Score a CSV, JSON Lines or Parquet file into another one, of any size, in constant memory.

        `source` and `target` are paths, URLs that fsspec knows, or `-` for standard input and output;
        gzip and zstd are read and written. The output has one row for each input row, in order, all
        of one version; it appears under its name when it is complete. Rejected rows have their error
        in their own row, and are listed in `<target>.errors.csv`. `options=BulkOptions(resume=True)`
        continues an unfinished run. `progress` is called after each chunk, and while there is no worker.
        `owner` is whose job it is, for whoever watches the queue; if not given, this process's user.
        `progress` is called from the client's own thread.

        Raises:
            FileRefused: the file cannot be scored to its end; what was scored is kept.
            TooManyErrors: more rows were rejected than `options.max_errors` allows.
            UnknownModel, NoAnswer, QueueFull, ServerUnreachable: as for `predict`.
        """
        work = self._client.score_file(
            model, source, target, options=options, progress=progress, owner=owner
        )
        return self.run(work)

    score_csv = score_file

    def score_rows(
        self,
        model: str,
        source: str | Path,
        *,
        options: BulkOptions | Mapping[str, Any] | None = None,
    ) -> Iterator[ScoredRow]:
        """The rows of a file with their predictions, in order, for callers who write the output.

        Files and options are those of `score_file`; of the columns, `options` chooses which ones a
        row's `record` has. Memory stays constant, however long the caller takes for a row.

        Raises:
            FileRefused, UnknownModel, NoAnswer, QueueFull, ServerUnreachable: as for `score_file`.
        """
        # The rows belong to the loop that they begin on, whatever becomes of the client.
        running = self._background()
        yield from running.iterate(running.client.scored_parts(model, source, options=options))

    def check_file(
        self,
        model: str,
        source: str | Path,
        *,
        options: BulkOptions | Mapping[str, Any] | None = None,
        progress: Callable[[int, int, int | None], None] | None = None,
    ) -> FileReport:
        """Profile a file without scoring it: each column, and the rows that would be rejected.

        `progress` is called with the rows so far, the bytes of the input so far, and its size in bytes
        (None if it is unknown).
        `progress` is called from the client's own thread.

        Raises:
            FileRefused: the file as a whole cannot be scored; the message says why.
            UnknownModel, NoAnswer, QueueFull, ServerUnreachable: as for `predict`.
        """
        work = self._client.check_file(model, source, options=options, progress=progress)
        return self.run(work)

    def describe(self, model: str, *, timeout: float = 5.0) -> ModelDescription:
        """What a model, or an alias or a version of it, takes and gives: columns, types, outputs, schemas.

        Raises:
            UnknownModel, NoAnswer, QueueFull, ServerUnreachable: as for `predict`.
        """
        return self.run(self._client.describe(model, timeout=timeout))

    def status(self, *, timeout: float = 5.0) -> ServiceStatus:
        """Whether workers serve the queue, which versions they serve, and how much waits; it asks no worker.

        Raises:
            ServerUnreachable: Redis does not answer within `timeout` seconds.
        """
        return self.run(self._client.status(timeout=timeout))

    def dead_letters(self) -> list[DeadLetter]:
        """The requests and records that were given up, since their processes died of them; the newest first.

        Raises:
            ServerUnreachable: Redis does not answer.
        """
        return self.run(self._client.dead_letters())

    def dead_letter(self, letter_id: str) -> DeadLetter:
        """The dead letter of this id.

        Raises:
            DeadLetterUnusable: there is none of this id.
        """
        return self.run(self._client.dead_letter(letter_id))

    def replay(
        self, letter: DeadLetter, *, version: int | None = None, timeout: float = 30.0
    ) -> Answer:
        """Send a dead letter again, to another version or to what it named; it stays a dead letter.

        Raises:
            DeadLetterUnusable: its body was cut, or it is no request.
            NoAnswer, QueueFull, ServerUnreachable: as for `predict`.
        """
        return self.run(self._client.replay(letter, version=version, timeout=timeout))

    def drop_dead_letters(self, letter_ids: Sequence[str] | None = None) -> int:
        """Remove dead letters, or without ids all of them; returns how many there were."""
        return self.run(self._client.drop_dead_letters(letter_ids))

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do asynchronous work of this client and wait for it."""
        return self._background().run(work)

    def close(self) -> None:
        """Close the connections; a closed client opens them again when it is used."""
        with self._locks.setdefault(os.getpid(), threading.Lock()):
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
        with self._locks.setdefault(os.getpid(), threading.Lock()):
            if self._running is None or self._running.pid != os.getpid():
                self._running = _Loop(self.settings, self._connection)
                self._closer = weakref.finalize(self, self._running.close)
            return self._running
