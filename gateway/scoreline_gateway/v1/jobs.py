"""Jobs over HTTP: submitted, looked at, waited for, followed, fetched and cancelled, whoever was restarted meanwhile.

A job of records is one in the queue. Beside it Redis keeps whose it is and what was asked (its `Submission`), so that
any gateway answers for it, and so that an Idempotency-Key stands for one request only. A job of a file is a folder of
this machine; see `files.py`.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec
import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from scoreline_client.async_client import ONLINE_RECORDS
from scoreline_client.errors import JobLost, RequestRefused, ScorelineError
from scoreline_client.jobs import FIRST_PAUSE_S, LONGEST_PAUSE_S, AsyncJob, JobStatus
from scoreline_client.options import RequestOptions
from scoreline_client.protocol.json_records import LONGEST_EXPIRY_S
from scoreline_client.protocol.keys import Lane
from scoreline_client.protocol.messages import Request as QueuedRequest
from scoreline_client.protocol.messages import new_id
from scoreline_client.transport.dispatcher import Transport
from scoreline_gateway.access import ENDLESS, Right, principal_of, route
from scoreline_gateway.body import WhileConnected
from scoreline_gateway.errors import HttpCode, HttpRefused, problem_of
from scoreline_gateway.v1.answers import predictions_response
from scoreline_gateway.v1.asking import (
    VALUE_OPTIONS,
    Preference,
    Records,
    idempotency_key,
    job_id_of,
    model_of,
    options_of,
    preference_of,
    read_records,
    seconds_of,
)

EXPIRES_S = 3600.0
"""Seconds that a job waits for a worker, where its caller does not say."""
ACCEPT_S = 10.0
"""Seconds that the queue may take to accept a job."""
HEARTBEAT_S = 15.0
"""Seconds after which a stream of events that has none sends a comment, so that nobody takes it for dead."""
LONGEST_EVENT_PAUSE_S = 1.0
_OVER = frozenset(JobStatus) - {JobStatus.QUEUED, JobStatus.RUNNING}
_ID = re.compile("[0-9a-f]{32}")


class JobState(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A job as its callers see it."""

    id: str
    status: JobStatus
    model: str
    created_at: str
    """In ISO 8601, UTC."""
    version: int = 0
    """The version that scores, once it is known."""
    rows: int | None = None
    """Of a file: rows that are scored or rejected so far."""
    rejected: int | None = None
    percent: float | None = None
    seconds_left: float | None = None
    waiting: str | None = None
    """Why it makes no progress at this moment."""
    media_type: str | None = None
    """Of a file that is done: the content type of its result."""
    rejected_by_code: dict[str, int] | None = None
    warnings: list[dict[str, Any]] | None = None
    """How many values were warned of: `code`, `column`, `count`."""
    notes: list[str] | None = None
    """How the file was read, as far as its sender should know it, and what its values may have meant instead."""
    error: dict[str, Any] | None = None
    """Why it has no result: `status`, `code`, `message` and, where there is one, `column`."""

    @property
    def is_over(self) -> bool:
        """Whether this state is the last one."""
        return self.status in _OVER

    def as_json(self) -> dict[str, Any]:
        """For callers, with the paths that lead on."""
        path = f"/v1/jobs/{self.id}"
        links = {"self": path, "result": f"{path}/result", "events": f"{path}/events"}
        if self.rows is not None:
            links["errors"] = f"{path}/errors"
        fields: dict[str, Any] = msgspec.to_builtins(self)
        return fields | {"links": links}


def replace_state(
    state: JobState, status: JobStatus, error: dict[str, Any] | None = None
) -> JobState:
    """The next state of a job, in which it waits for nothing."""
    return msgspec.structs.replace(
        state, status=status, error=error, waiting=None, seconds_left=None
    )


class HttpJob(Protocol):
    """A job of records, or of a file."""

    async def state(self) -> JobState:
        """The state of the job now."""

    async def result(self, timeout_s: float) -> Response:
        """The answer with the result of a job that is over."""

    async def cancel(self) -> JobState:
        """End it."""


class Submission(msgspec.Struct, frozen=True):
    """Whose job it is, and what was asked."""

    principal: str
    model: str
    fingerprint: str
    """The sha256 of all that was asked."""
    is_single: bool
    created_at: str


def now_text() -> str:
    """This moment, as answers have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


async def claim(
    transport: Transport, job_id: str, submission: Submission, lifetime_ms: int
) -> Submission:
    """Keep the submission of a job's id for `lifetime_ms`; returns the earlier one, if the id has one for this request.

    Raises:
        HttpRefused: the id stands for another request.
        ServerUnreachable: the submission cannot be kept.
    """
    name, data = transport.keys.submission(job_id), msgspec.json.encode(submission)
    before = await transport.repeat(
        lambda: transport.redis.set(name, data, nx=True, get=True, px=lifetime_ms), ACCEPT_S
    )
    if before is None:
        return submission
    earlier = msgspec.json.decode(before, type=Submission)
    if submission.fingerprint != earlier.fingerprint:
        message = "this Idempotency-Key came with another request before; use a key once"
        raise HttpRefused(422, HttpCode.KEY_REUSED, message)
    return earlier


async def submit_records(
    request: Request,
    model: str,
    records: Records,
    options: RequestOptions,
    key: str | None,
    expires_s: float = EXPIRES_S,
) -> RecordJob:
    """Queue records as a job; returns the earlier job, where its caller has sent the same records under this key.

    Raises:
        HttpRefused: the key came with another request.
        UnknownModel: there is no such version, and a worker is there to say so.
        QueueFull, ServerUnreachable, PayloadTooLarge: it is not queued.
    """
    transport = request.app.client.transport
    job_id = new_id() if key is None else job_id_of(request, key)
    is_known = key is not None and await transport.repeat(
        lambda: transport.redis.exists(transport.keys.submission(job_id)), ACCEPT_S
    )
    if not is_known:
        await request.app.fleet.check_known(model)
    encoded = options.encoded_options
    request_bytes = b"\0".join((model.encode(), encoded, b"records", records.body))
    submission = Submission(
        principal_of(request).name,
        model,
        hashlib.sha256(request_bytes).hexdigest(),
        records.is_single,
        now_text(),
    )
    expires_ms = int(expires_s * 1000)
    # Kept before the job is queued, and expired before the job's own record: no key queues a job twice.
    lifetime_ms = expires_ms + transport.settings.result_ttl_s * 1000
    submission = await claim(transport, job_id, submission, lifetime_ms)
    lane = Lane.ONLINE if records.count <= ONLINE_RECORDS else Lane.BULK
    queued = QueuedRequest(
        id=job_id, model=model, body=records.as_array, options=encoded, expires_ms=expires_ms
    )
    await transport.submit(queued, lane, ACCEPT_S)
    return RecordJob(request.app.client.job(job_id), submission)


class RecordJob:
    """A job of records."""

    def __init__(self, job: AsyncJob, submission: Submission) -> None:
        self._job = job
        self._submission = submission

    async def state(self) -> JobState:
        """See HttpJob; raises JobLost."""
        status = await self._job.status()
        error = None
        if status in _OVER and status is not JobStatus.DONE:
            try:
                await self._job.result(ACCEPT_S)
            except RequestRefused as refused:
                error = error_of(refused)
        return JobState(
            id=self._job.id,
            status=status,
            model=self._submission.model,
            created_at=self._submission.created_at,
            error=error,
        )

    async def result(self, timeout_s: float) -> Response:
        """See HttpJob; raises the error that the job has ended with."""
        predictions = await self._job.result(timeout_s)
        return predictions_response(predictions, is_single=self._submission.is_single)

    async def cancel(self) -> JobState:
        """See HttpJob.

        Raises:
            HttpRefused: the job was answered before.
        """
        is_cancelled = await self._job.cancel()
        state = await self.state()
        if not is_cancelled and state.status is not JobStatus.CANCELLED:
            message = f"job {self._job.id} was answered before it was cancelled"
            raise HttpRefused(409, HttpCode.CONFLICT, message)
        return state


def error_of(error: ScorelineError) -> dict[str, Any]:
    """An error as a job's state has it."""
    problem = problem_of(error, rejected_status=422)
    fields = {"status": problem.status, "code": problem.code, "message": problem.message}
    return fields | ({"column": problem.column} if problem.column is not None else {})


async def wait_until_over(job: HttpJob, wait_s: float) -> JobState:
    """The state of a job once it is over, or after `wait_s`."""
    until = time.monotonic() + wait_s
    pause_s = FIRST_PAUSE_S
    while True:
        state = await job.state()
        left_s = until - time.monotonic()
        if state.is_over or left_s <= 0:
            return state
        await asyncio.sleep(min(pause_s, left_s))
        pause_s = min(pause_s * 1.5, LONGEST_PAUSE_S)


async def job_of(request: Request) -> HttpJob:
    """The job that a path names.

    Raises:
        JobLost: this caller has no such job.
    """
    job_id, principal = request.path_params["job"], principal_of(request)
    if not _ID.fullmatch(job_id):
        raise JobLost(job_id[:40])
    file_job = await request.app.state["files"].find(job_id, principal.name)
    if file_job is not None:
        principal.check(Right.JOBS, file_job.model)
        return file_job  # type: ignore[no-any-return]
    transport = request.app.client.transport
    data = await transport.repeat(
        lambda: transport.redis.get(transport.keys.submission(job_id)), ACCEPT_S
    )
    if data is None:
        raise JobLost(job_id)
    submission = msgspec.json.decode(data, type=Submission)
    # A job of another caller is answered like one that does not exist.
    if submission.principal != principal.name:
        raise JobLost(job_id)
    principal.check(Right.JOBS, submission.model)
    return RecordJob(request.app.client.job(job_id), submission)


def accepted(state: JobState, preference: Preference) -> Response:
    """202: where the job is found, and when it is worth looking."""
    headers = {"Location": f"/v1/jobs/{state.id}", "Retry-After": "1", **preference.applied}
    return _json(state, 202, headers)


def _json(state: JobState, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    body = orjson.dumps(state.as_json())
    return Response(body, status, headers, media_type="application/json")


async def submit(request: Request) -> Response:
    """Queue the records of the body as a job."""
    model = model_of(request)
    expires_s = seconds_of(request, "expires", EXPIRES_S, LONGEST_EXPIRY_S)
    options = options_of(request.query_params, RequestOptions, VALUE_OPTIONS, ("expires",))
    key = idempotency_key(request)
    records = await read_records(request)
    job = await submit_records(request, model, records, options, key, expires_s)
    return accepted(await job.state(), Preference())


async def show_or_cancel(request: Request) -> Response:
    """The state of a job; with `Prefer: wait=SECONDS`, once it is over. DELETE cancels it, and removes a file's files."""
    preference, job = preference_of(request), await job_of(request)
    if request.method == "DELETE":
        return _json(await job.cancel())
    with WhileConnected(request):
        state = await wait_until_over(job, preference.wait_s)
    headers = Preference(wait_s=preference.wait_s).applied
    return _json(state, 200, headers if state.is_over else headers | {"Retry-After": "1"})


async def result(request: Request) -> Response:
    """A job's result, or why it has none; with `Prefer: wait=SECONDS`, once it is over."""
    preference, job = preference_of(request), await job_of(request)
    with WhileConnected(request):
        state = await wait_until_over(job, preference.wait_s)
        if not state.is_over:
            message = f"job {state.id} is {state.status}: it has no result yet"
            raise HttpRefused(409, HttpCode.CONFLICT, message, headers={"Retry-After": "1"})
        return await job.result(ACCEPT_S)


async def events(request: Request) -> Response:
    """A stream of the states of a job: `status` with each change, `end` with the last one."""
    job = await job_of(request)
    await job.state()  # a job that is lost is answered with a status, and not with a stream
    if request.headers.get("last-event-id") == "end":
        return Response(status_code=204)  # a browser that connects again is told not to

    request.scope[ENDLESS] = True

    async def stream() -> AsyncIterator[bytes]:
        sent, pause_s, quiet_since = b"", FIRST_PAUSE_S, time.monotonic()
        while True:
            try:
                state = await job.state()
                data, name = orjson.dumps(state.as_json()), "end" if state.is_over else "status"
            except ScorelineError as error:
                data, name = orjson.dumps({"error": error_of(error)}), "end"
            if data != sent:
                sent, pause_s, quiet_since = data, FIRST_PAUSE_S, time.monotonic()
                end = b"id: end\n" if name == "end" else b""
                yield b"event: " + name.encode() + b"\n" + end + b"data: " + data + b"\n\n"
            elif time.monotonic() - quiet_since >= HEARTBEAT_S:
                quiet_since = time.monotonic()
                yield b": still here\n\n"
            if name == "end":
                return
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, LONGEST_EVENT_PAUSE_S)

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(stream(), headers=headers, media_type="text/event-stream")


routes = [
    route("/v1/models/{model}/jobs", submit, right=Right.JOBS, methods=("POST",)),
    route("/v1/jobs/{job}", show_or_cancel, right=Right.JOBS, methods=("GET", "DELETE")),
    route("/v1/jobs/{job}/result", result, right=Right.JOBS),
    route("/v1/jobs/{job}/events", events, right=Right.JOBS),
]
