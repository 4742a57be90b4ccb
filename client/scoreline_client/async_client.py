"""AsyncClient: predictions with `await`, for records, frames, jobs and files."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from functools import cache
from itertools import chain
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Self

import redis.asyncio

from scoreline_client.arguments import given_as, options_of, path_of, target_of
from scoreline_client.codes import Code
from scoreline_client.dead_letters import (
    DeadLetter,
    drop_dead_letters,
    read_dead_letter,
    read_dead_letters,
    replay_dead_letter,
)
from scoreline_client.descriptions import ModelDescription, describe
from scoreline_client.errors import MissingDependency, RequestRefused, ScorelineError, SettingsError
from scoreline_client.jobs import AsyncJob
from scoreline_client.options import NO_OPTIONS, BulkOptions, RequestOptions
from scoreline_client.predictions import Prediction
from scoreline_client.protocol.json_records import (
    EncodedRecords,
    check_expiry,
    check_model,
    check_records,
    check_size,
    check_timeout,
    encode_record,
    encode_records,
    is_frame,
    predictions_of,
    raise_refusal,
    split_records,
)
from scoreline_client.protocol.keys import Lane
from scoreline_client.protocol.messages import Answer, Codec, Request, check_id, new_id
from scoreline_client.service import ServiceStatus, read_service
from scoreline_client.settings import ClientSettings
from scoreline_client.tracing import Tracing
from scoreline_client.transport.coalescing import Coalescer
from scoreline_client.transport.dispatcher import Transport
from scoreline_client.transport.ordered import answers_in_time

if TYPE_CHECKING:
    import pandas as pd

    from scoreline_client.files.chunks import ScoredRow
    from scoreline_client.files.profile import FileReport
    from scoreline_client.files.run import BulkProgress, ScoreSummary

ONLINE_RECORDS = 1000
"""A request of more records than this goes into the bulk lane, behind the requests of others."""


class _OnLoop:
    """What a client has on one event loop of one process: its connections and the requests on their way."""

    def __init__(self, settings: ClientSettings, connection: redis.asyncio.Redis | None) -> None:
        self.transport = Transport(settings, connection)
        self.coalescer = Coalescer(self.transport)
        # A loop that ends, as that of `asyncio.run` does, closes the generators that have begun on it.
        self.until_closed = self._until_closed()
        with suppress(StopIteration):
            self.until_closed.asend(None).send(None)

    async def _until_closed(self) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            self.coalescer.close()
            await self.transport.close()


class AsyncClient:
    """Asks for predictions, on any event loop, from any thread and process.

    On each event loop it has connections of its own, which are closed with the client or at the end of that loop: a
    loop for each request, as `asyncio.run` makes it, connects each time. After a fork, a child has its own, too.
    `connection` is a function that makes the connection of a loop, or the connection of the only one.

    Arguments that are not given come from the environment: `SCORELINE_REDIS_URL`,
    `SCORELINE_QUEUE` and so on, see ClientSettings.
    """

    def __init__(
        self,
        redis_url: str | None = None,
        *,
        queue: str | None = None,
        settings: ClientSettings | None = None,
        connection: Callable[[], redis.asyncio.Redis] | redis.asyncio.Redis | None = None,
    ) -> None:
        self.settings = settings_of(redis_url, queue, settings, connection)
        # A dependency that tracing lacks is an error here, and not in the first call.
        Tracing.of(self.settings)
        self._connection = connection
        self._loops: dict[asyncio.AbstractEventLoop, _OnLoop] = {}
        self._inherited: list[dict[asyncio.AbstractEventLoop, _OnLoop]] = []
        """After a fork, the parent's loops. They are kept, since collecting them would close what the parent reads."""
        _clients.add(self)
        _follow_forks()

    def __repr__(self) -> str:
        return f"<AsyncClient of {queue_and_server(self.settings, self._connection)}>"

    @property
    def transport(self) -> Transport:
        """The transport of the running event loop."""
        return self._on_loop().transport

    @property
    def coalescer(self) -> Coalescer:
        """The coalescer of the running event loop."""
        return self._on_loop().coalescer

    def _on_loop(self) -> _OnLoop:
        loop = asyncio.get_running_loop()
        on_loop = self._loops.get(loop)
        return on_loop if on_loop is not None else self._begin(loop)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> _OnLoop:
        for other in list(self._loops):
            if other.is_closed():
                self._loops.pop(other, None)
        connection = self._connection
        if connection is not None and callable(connection):
            connection = connection()
        elif connection is not None:
            # Its next event loop cannot use it.
            self._connection = _belongs_to_another_loop
        on_loop = self._loops[loop] = _OnLoop(self.settings, connection)
        return on_loop

    def begin_anew(self) -> None:
        """Forget the connections of the process that has forked this one."""
        self._inherited.append(self._loops)
        self._loops = {}

    async def predict(
        self,
        model: str,
        record: Mapping[str, Any],
        *,
        timeout: float = 5.0,  # noqa: ASYNC109
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
        encoded = NO_OPTIONS.encoded_options if options is NO_OPTIONS else _encoded(options)
        check_timeout(timeout)
        check_model(model)
        on_loop = self._on_loop()
        tracing = on_loop.transport.tracing
        if tracing is None:
            return await on_loop.coalescer.ask(model, body, encoded, timeout)
        with tracing.sending(Lane.ONLINE, model) as trace:
            return await on_loop.coalescer.ask(model, body, encoded, timeout, trace)

    async def predict_many(
        self,
        model: str,
        records: Iterable[Mapping[str, Any]],
        *,
        timeout: float = 30.0,  # noqa: ASYNC109
        options: RequestOptions | Mapping[str, Any] | None = NO_OPTIONS,
    ) -> list[Prediction]:
        """Predict records, in their order; a bad record has an `.error`, and the others their predictions.

        `options` are those of `predict`.
        Many records travel as several requests, all scored by the version that answered the first.

        Raises:
            UnknownModel, NoAnswer, QueueFull, ServerUnreachable: as for `predict`.
            EmptyRequest: there are no records.
        """
        check_timeout(timeout)
        listed = check_records(records)
        encoded_options = _encoded(options)

        def build(ref: str, chunk: EncodedRecords, job: str = "") -> Request:
            return self.request(ref, chunk.body, timeout, job=job, options=encoded_options)

        chunks = split_records(listed, self.settings)
        chunk = next(chunks)
        if chunk.count == len(listed):
            lane = Lane.ONLINE if chunk.count <= ONLINE_RECORDS else Lane.BULK
            answer = await self.transport.ask(build(model, chunk), lane, timeout)
            return predictions_of(answer, chunk.errors)
        predictions: list[Prediction] = []
        answers = answers_in_time(
            self.transport, model, chain([chunk], chunks), build, timeout_s=timeout
        )
        async with aclosing(answers):
            async for chunk, answer in answers:
                predictions += predictions_of(answer, chunk.errors, len(predictions))
        return predictions

    async def submit(
        self,
        model: str,
        records: Iterable[Mapping[str, Any]],
        *,
        expires: float = 3600.0,
        timeout: float = 30.0,  # noqa: ASYNC109
        job_id: str | None = None,
    ) -> AsyncJob:
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
        check_timeout(timeout)
        expires_ms = int(check_expiry(expires) * 1000)
        encoded = encode_records(check_records(records))
        check_size(
            encoded, self.settings, "predict_many and score_file take any number of records."
        )
        lane = Lane.ONLINE if encoded.count <= ONLINE_RECORDS else Lane.BULK
        request = Request(
            id=new_id() if job_id is None else check_id(job_id),
            model=check_model(model),
            body=encoded.body,
            notify=self.transport.client_id,
            expires_ms=expires_ms,
        )
        await self.transport.submit(request, lane, timeout)
        return AsyncJob(self, request.id, request.model)

    def job(self, job_id: str) -> AsyncJob:
        """Attach to a job by its id, from any process.

        Raises:
            SettingsError: it is no id. Whether there is such a job, its methods say.
        """
        return AsyncJob(self, check_id(job_id))

    async def predict_frame(
        self,
        model: str,
        frame: pd.DataFrame,
        *,
        timeout: float = 60.0,  # noqa: ASYNC109
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
        check_model(model)
        check_timeout(timeout)
        for package in ("pandas", "pyarrow"):
            try:
                __import__(package)
            except ImportError as error:
                raise MissingDependency("predict_frame", package, "frames") from error
        if not is_frame(frame):
            raise RequestRefused(
                Code.TYPE,
                f"frame must be a pandas DataFrame, not {type(frame).__name__}; records are for predict_many",
            )
        from scoreline_client.protocol.arrow_tables import (
            SLICE_ROWS_AT_LEAST,
            decode_frame,
            encode_frame,
        )

        def build(ref: str, body: bytes, job: str = "") -> Request:
            return self.request(ref, body, timeout, codec=Codec.ARROW, job=job, by_output=True)

        limits = self.settings.max_request_records, self.settings.max_request_bytes
        slices = encode_frame(frame, *limits)
        streams: list[bytes | memoryview] = []
        bodies: list[bytes] = []
        if len(frame) <= SLICE_ROWS_AT_LEAST:
            bodies = await asyncio.to_thread(list, slices)
            slices = iter(bodies)
        if len(bodies) == 1:
            body = bodies[0]
            lane = Lane.ONLINE if len(frame) <= ONLINE_RECORDS else Lane.BULK
            answer = await self.transport.ask(build(model, body), lane, timeout)
            raise_refusal(answer)
            streams.append(answer.body)
        else:
            answers = answers_in_time(self.transport, model, slices, build, timeout_s=timeout)
            async with aclosing(answers):
                async for _, answer in answers:
                    streams.append(answer.body)
        return decode_frame(streams, frame.index)

    async def score_file(
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

        Raises:
            FileRefused: the file cannot be scored to its end; what was scored is kept.
            TooManyErrors: more rows were rejected than `options.max_errors` allows.
            UnknownModel, NoAnswer, QueueFull, ServerUnreachable: as for `predict`.
        """
        from scoreline_client.files.run import score_file

        return await score_file(
            self.transport,
            self.settings,
            check_model(model),
            path_of("source", source),
            target_of(target),
            options=options_of(BulkOptions, options),
            progress=given_as("progress", progress, _is_callback, "a function, or None"),
            owner=given_as("owner", owner, (str, NoneType), "a name, or None"),
        )

    score_csv = score_file

    async def score_rows(
        self,
        model: str,
        source: str | Path,
        *,
        options: BulkOptions | Mapping[str, Any] | None = None,
    ) -> AsyncIterator[ScoredRow]:
        """The rows of a file with their predictions, in order, for callers who write the output.

        Files and options are those of `score_file`; of the columns, `options` chooses which ones a
        row's `record` has. Memory stays constant, however long the caller takes for a row.

        Raises:
            FileRefused, UnknownModel, NoAnswer, QueueFull, ServerUnreachable: as for `score_file`.
        """
        async with aclosing(self.scored_parts(model, source, options=options)) as chunks:
            async for chunk in chunks:
                for row in chunk:
                    yield row

    async def scored_parts(
        self,
        model: str,
        source: str | Path,
        *,
        options: BulkOptions | Mapping[str, Any] | None = None,
    ) -> AsyncGenerator[list[ScoredRow]]:
        """The rows of `score_rows`, some at a time."""
        from scoreline_client.files.chunks import scored_parts

        bulk_options = options_of(BulkOptions, options)
        chunks = scored_parts(
            self.transport, check_model(model), path_of("source", source), bulk_options
        )
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    async def check_file(
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

        Raises:
            FileRefused: the file as a whole cannot be scored; the message says why.
            UnknownModel, NoAnswer, QueueFull, ServerUnreachable: as for `predict`.
        """
        from scoreline_client.files.profile import check_file

        return await check_file(
            self.transport,
            check_model(model),
            path_of("source", source),
            options=options_of(BulkOptions, options),
            progress=given_as("progress", progress, _is_callback, "a function, or None"),
        )

    async def describe(self, model: str, *, timeout: float = 5.0) -> ModelDescription:  # noqa: ASYNC109
        """What a model, or an alias or a version of it, takes and gives: columns, types, outputs, schemas.

        Raises:
            UnknownModel, NoAnswer, QueueFull, ServerUnreachable: as for `predict`.
        """
        return await describe(self.transport, model, check_timeout(timeout))

    async def status(self, *, timeout: float = 5.0) -> ServiceStatus:  # noqa: ASYNC109
        """Whether workers serve the queue, which versions they serve, and how much waits; it asks no worker.

        Raises:
            ServerUnreachable: Redis does not answer within `timeout` seconds.
        """
        return await read_service(self.transport, check_timeout(timeout))

    async def dead_letters(self) -> list[DeadLetter]:
        """The requests and records that were given up, since their processes died of them; the newest first.

        Raises:
            ServerUnreachable: Redis does not answer.
        """
        return await read_dead_letters(self.transport)

    async def dead_letter(self, letter_id: str) -> DeadLetter:
        """The dead letter of this id.

        Raises:
            DeadLetterUnusable: there is none of this id.
        """
        return await read_dead_letter(self.transport, letter_id)

    async def replay(
        self,
        letter: DeadLetter,
        *,
        version: int | None = None,
        timeout: float = 30.0,  # noqa: ASYNC109
    ) -> Answer:
        """Send a dead letter again, to another version or to what it named; it stays a dead letter.

        Raises:
            DeadLetterUnusable: its body was cut, or it is no request.
            NoAnswer, QueueFull, ServerUnreachable: as for `predict`.
        """
        return await replay_dead_letter(self.transport, letter, version, timeout)

    async def drop_dead_letters(self, letter_ids: Sequence[str] | None = None) -> int:
        """Remove dead letters, or without ids all of them; returns how many there were."""
        return await drop_dead_letters(self.transport, letter_ids)

    async def close(self) -> None:
        """Close the connections of this event loop; callers that still wait on it are cancelled."""
        on_loop = self._loops.pop(asyncio.get_running_loop(), None)
        if on_loop is not None:
            await on_loop.until_closed.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def request(self, model: str, body: bytes, timeout_s: float, **fields: Any) -> Request:
        """A request of this client that expires when its caller's timeout is over."""
        return Request(
            id=new_id(),
            model=check_model(model),
            body=body,
            reply_to=self.transport.client_id,
            expires_ms=max(1, int(timeout_s * 1000)),
            **fields,
        )


def settings_of(
    redis_url: str | None,
    queue: str | None,
    settings: ClientSettings | None,
    connection: Callable[[], redis.asyncio.Redis] | redis.asyncio.Redis | None,
) -> ClientSettings:
    """The settings of a client: those it was given, or its arguments and the environment.

    Raises:
        SettingsError: one of them is unusable.
    """
    given_as("settings", settings, (ClientSettings, NoneType), "a ClientSettings, or None")
    is_argument = settings is None and redis_url is not None
    if settings is None:
        settings = ClientSettings.from_environment(redis_url=redis_url, queue=queue)
    if connection is None:
        settings.check_redis_url(*(["redis_url"] if is_argument else []))
    elif not callable(connection) and not isinstance(connection, redis.asyncio.Redis):
        expected = "a function that makes a redis.asyncio.Redis, or one of these"
        raise SettingsError("connection", connection, expected)
    return settings


def queue_and_server(settings: ClientSettings, connection: object) -> str:
    """The queue of a client and its server, for people: without a password."""
    server = settings.server if connection is None else "a connection that it was given"
    return f"queue {settings.queue} at {server}"


def _encoded(options: RequestOptions | Mapping[str, Any] | None) -> bytes:
    return options_of(RequestOptions, options).encoded_options


def _is_callback(value: object) -> bool:
    return value is None or callable(value)


_clients: weakref.WeakSet[AsyncClient] = weakref.WeakSet()


@cache
def _follow_forks() -> None:
    """Have each child begin anew. To ask for the process in each call costs as much as the rest of what `predict` does."""
    os.register_at_fork(after_in_child=_begin_anew)


def _begin_anew() -> None:
    for client in _clients:
        client.begin_anew()


def _belongs_to_another_loop() -> redis.asyncio.Redis:
    raise ScorelineError(
        "the connection of this AsyncClient belongs to another event loop; give it a function that makes one"
    )
