"""Files up and down: `curl -T in.csv HOST/v1/models/M/score`, answered by the scored file or by a job.

A file is received into the spool first, and scored from there by the client's own `score_file`, which can go on
where it was stopped. So neither a caller that goes nor a gateway that is killed loses a file that was accepted.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import os
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.types import Message, Receive, Scope, Send

from scoreline_client.async_client import AsyncClient
from scoreline_client.codes import Code
from scoreline_client.errors import (
    JobLost,
    NoAnswer,
    QueueFull,
    ScorelineError,
    ServerUnreachable,
    TooManyErrors,
)
from scoreline_client.files.run import BulkProgress, ScoreSummary
from scoreline_client.jobs import JobStatus
from scoreline_client.options import BulkOptions
from scoreline_client.protocol.messages import new_id
from scoreline_gateway.access import Right, principal_of, route
from scoreline_gateway.body import WhileConnected, body_pieces, content_type
from scoreline_gateway.errors import CallerGone, HttpCode, HttpRefused
from scoreline_gateway.v1.asking import (
    FILE_OPTIONS,
    PACKED,
    idempotency_key,
    in_query,
    job_id_of,
    model_of,
    options_of,
    preference_of,
)
from scoreline_gateway.v1.jobs import (
    JobState,
    Submission,
    accepted,
    claim,
    error_of,
    job_of,
    now_text,
    replace_state,
    wait_until_over,
)
from scoreline_gateway.v1.spool import FileTask, Spool, StoredJob

if TYPE_CHECKING:
    from scoreline_gateway.app import Gateway

logger = logging.getLogger(__name__)

Kind = Literal["csv", "jsonl", "parquet"]
KINDS: dict[str, Kind] = {
    "text/csv": "csv",
    "text/tab-separated-values": "csv",
    "application/x-ndjson": "jsonl",
    "application/jsonl": "jsonl",
    "application/vnd.apache.parquet": "parquet",
}
"""Formats of files, by the body's content type."""
WRITE_BYTES = 1 << 20
FILES_AT_ONCE = 4
"""Files that a process scores at a time; the others wait."""
LOOK_S = 1.0
"""Seconds between two looks at whether a job was removed, and at how much room there is."""
SWEEP_S = 30.0
RETRY_S = 10.0
"""Seconds after which a run is tried again that gave up waiting for the service."""
SHOW_S = 0.5


class NoRoom(ScorelineError):
    """Raised when the files of all callers together are more than the gateway may keep."""


class FileRuns:
    """Scores the files of the spool, and resumes those that another process has left."""

    def __init__(self, client: AsyncClient, spool: Spool) -> None:
        self.spool = spool
        self._client = client
        self._room = asyncio.Semaphore(FILES_AT_ONCE)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def find(self, job_id: str, principal: str) -> FileJob | None:
        """The job of this id, unless it is none of a file.

        Raises:
            JobLost: it is another's.
        """
        stored = await asyncio.to_thread(self.spool.find, job_id)
        if stored is None:
            return None
        try:
            task = await asyncio.to_thread(stored.read_task)
        except FileNotFoundError:
            raise JobLost(job_id) from None
        if task.principal != principal:
            raise JobLost(job_id)
        return FileJob(stored, task)

    def begin(self, job: StoredJob) -> None:
        """Score a file, unless this process does so already."""
        if job.id not in self._tasks:
            task = self._tasks[job.id] = asyncio.create_task(self._run(job))
            task.add_done_callback(lambda _: self._tasks.pop(job.id, None))

    async def follow(self) -> None:
        """Resume unfinished files, and remove old ones, for as long as the gateway runs."""
        while True:
            try:
                await asyncio.to_thread(self.spool.sweep)
                for job in await asyncio.to_thread(self.spool.jobs):
                    with suppress(FileNotFoundError):
                        if not (await asyncio.to_thread(job.read_state)).is_over:
                            self.begin(job)
            # A disk that fails now may not later; nothing else resumes the files that were left.
            except Exception:
                logger.exception("spool_check_failed folder=%s: retrying", self.spool.folder)
            await asyncio.sleep(SWEEP_S)

    async def close(self) -> None:
        """Stop; unfinished files are resumed at the next start."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, job: StoredJob) -> None:
        async with self._room:
            try:
                with job.held() as is_mine:
                    if is_mine and not job.read_state().is_over:
                        await self._score(job)
            except FileNotFoundError:
                logger.info("file_removed job=%s: it is not scored any further", job.id)
                if job.is_cancelled:
                    job.strip()
            # Whatever else is raised: the job has failed with it, instead of being tried for ever.
            except Exception as error:
                logger.exception("file_failed job=%s", job.id)
                with suppress(OSError):
                    ended = replace_state(job.read_state(), JobStatus.FAILED, error=_error(error))
                    job.write("state.json", ended)

    async def _score(self, job: StoredJob) -> None:
        """Score a file to its end, whatever becomes of workers and server meanwhile."""
        task = job.read_task()
        options = replace(file_options(task.query), input_format=task.kind, resume=True)
        written_at = 0.0
        state = replace_state(job.read_state(), JobStatus.RUNNING)

        def show(progress: BulkProgress) -> None:
            nonlocal written_at, state
            percent = None if progress.percent is None else round(progress.percent, 1)
            left_s = None if progress.seconds_left is None else round(progress.seconds_left, 1)
            state = msgspec.structs.replace(
                state,
                rows=progress.rows,
                rejected=progress.rejected,
                percent=percent,
                seconds_left=left_s,
                version=progress.version,
                waiting=progress.waiting,
            )
            if time.monotonic() - written_at >= SHOW_S:
                written_at = time.monotonic()
                job.write("state.json", state)

        while True:
            job.write("state.json", state)
            run = asyncio.create_task(
                self._client.score_file(
                    task.model,
                    job.input,
                    job.folder / task.output,
                    options=options,
                    progress=show,
                    owner=task.principal,
                )
            )
            try:
                summary = await self._watched(job, run)
            except (NoAnswer, QueueFull, ServerUnreachable) as error:
                logger.warning("file_waits job=%s: %s", job.id, error)
                waiting = "the service is not there; the file is gone on with when it is"
                state = msgspec.structs.replace(state, waiting=waiting)
                job.write("state.json", state)
                await asyncio.sleep(RETRY_S)
                continue
            except ScorelineError as error:
                problem = _error(error)
                problem["message"] = in_query(problem["message"].replace(f"{job.folder}/", ""))
                job.write("state.json", replace_state(state, JobStatus.FAILED, error=problem))
                return
            job.write("state.json", _done(state, summary))
            await asyncio.to_thread(job.input.unlink, missing_ok=True)
            return

    async def _watched(self, job: StoredJob, run: asyncio.Task[Any]) -> Any:
        """The result of a run, which is ended when its job is cancelled or removed, or the disk is full.

        Raises:
            FileNotFoundError: the job was cancelled or removed.
            NoRoom: all files together are too large.
        """
        try:
            while not run.done():
                await asyncio.wait([run], timeout=LOOK_S)
                if job.is_cancelled or not job.folder.exists():
                    raise FileNotFoundError(job.folder)
                if not run.done() and not await asyncio.to_thread(self.spool.has_room):
                    raise NoRoom("the result has no room on the gateway's disk")
            return run.result()
        finally:
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)


class _Part(FileResponse):
    """A file, or the range of it that a request asks for; errors of the range become problems like all others."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused: Message | None = None

        async def sending(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start" and message["status"] >= 400:
                refused = message
            if refused is None:
                await send(message)

        await super().__call__(scope, receive, sending)
        if refused is None:
            return
        size = Headers(raw=list(refused["headers"])).get("content-range")
        if size is not None:
            message = f"Range asks for a part that is not there; the file has {size[8:]} bytes"
            headers = {"Content-Range": size}
            raise HttpRefused(416, HttpCode.NO_SUCH_PART, message, headers=headers)
        message = "Range is not written as it should be, such as `bytes=1000-` or `bytes=0-999`"
        raise HttpRefused(400, HttpCode.BAD_REQUEST, message)


class FileJob:
    """A job of a file, see jobs.HttpJob."""

    def __init__(self, stored: StoredJob, task: FileTask) -> None:
        self._stored = stored
        self._task = task
        self.model = task.model

    async def state(self) -> JobState:
        """See HttpJob; raises JobLost when it was removed."""
        try:
            return await asyncio.to_thread(self._stored.read_state)
        except FileNotFoundError:
            raise JobLost(self._stored.id) from None

    async def result(self, timeout_s: float) -> Response:  # noqa: ARG002 - of HttpJob
        """The scored file, also in part; raises what the job has ended with."""
        state = await self.state()
        if state.error is not None:
            problem = dict(state.error)
            raise HttpRefused(
                problem["status"], problem["code"], problem["message"], column=problem.get("column")
            )
        headers = {
            "ETag": f'"{state.id}"',
            "Cache-Control": "private",
            "Content-Location": f"/v1/jobs/{state.id}/result",
            "Scoreline-Version": str(state.version),
            "Scoreline-Rejected": str(state.rejected),
            "Scoreline-Warnings": str(sum(warning["count"] for warning in state.warnings or ())),
            "Scoreline-Notes": str(len(state.notes or ())),
        }
        for encoding, suffix in PACKED.items():
            if self._task.output.endswith(suffix):
                headers["Content-Encoding"] = encoding
        # A job that an earlier release has ended does not say.
        media_type = state.media_type or "application/octet-stream"
        return await self._file(self._stored.folder / self._task.output, media_type, headers)

    async def errors(self) -> Response:
        """The report on rejected rows; raises HttpRefused where there is none."""
        state = await self.state()
        report = self._stored.folder / f"{self._task.output}.errors.csv"
        if not await asyncio.to_thread(report.exists):
            message = f"job {state.id} is {state.status}, and has no report on rejected rows"
            raise HttpRefused(404, HttpCode.NOT_FOUND, message)
        headers = {"ETag": f'"{state.id}-errors"', "Cache-Control": "private"}
        return await self._file(report, "text/csv; charset=utf-8", headers)

    async def cancel(self) -> JobState:
        """Cancel it, and remove its files; one that is over is removed as a whole."""
        state = await self.state()
        if state.status is JobStatus.CANCELLED:
            return state
        if state.is_over:
            await self.remove()
            return state
        try:
            return await asyncio.to_thread(self._stored.cancel)
        except FileNotFoundError:
            raise JobLost(self._stored.id) from None

    async def remove(self) -> None:
        """Remove it and its files: it is lost from then on."""
        await asyncio.to_thread(self._stored.remove)

    async def _file(self, path: Path, media_type: str, headers: dict[str, str]) -> Response:
        try:
            info = await asyncio.to_thread(path.stat)
        except FileNotFoundError:
            raise JobLost(self._stored.id) from None
        # As a header: to a media type that begins with text/, Starlette would add `charset=utf-8`.
        headers |= {"Content-Type": media_type}
        return _Part(path, headers=headers, stat_result=info)


def _done(state: JobState, summary: ScoreSummary) -> JobState:
    """The state of a job whose file is scored, with the summary of the run."""
    return msgspec.structs.replace(
        replace_state(state, JobStatus.DONE),
        percent=100.0,
        rows=summary.rows,
        rejected=summary.rejected,
        version=summary.version,
        media_type=summary.media_type,
        rejected_by_code=summary.rejected_by_code,
        warnings=[
            dict(zip(("code", "column"), name.split(" ", 1), strict=True), count=count)
            for name, count in summary.warnings.items()
        ],
        notes=list(map(in_query, summary.notes)),
    )


def _error(error: Exception) -> dict[str, Any]:
    if isinstance(error, NoRoom):
        return {"status": 507, "code": Code.DISK_FULL.value, "message": str(error)}
    problem = error_of(error if isinstance(error, ScorelineError) else ScorelineError())
    if isinstance(error, TooManyErrors):
        # The client's own message names flags of the command line.
        problem["message"] = (
            f"{error.rejected:,} of the first {error.rows:,} rows were rejected, more than {error.limit}; "
            "`max_errors` in the query permits more"
        )
    return problem


def file_options(query: list[tuple[str, str]]) -> BulkOptions:
    """The options of a file that a query has.

    Raises:
        HttpRefused: as for `options_of`.
    """
    return options_of(QueryParams(query), BulkOptions, FILE_OPTIONS, ("compression",))


async def score(request: Request) -> Response:
    """Receive a file and score it: the answer is the result, or with `Prefer: respond-async` its job."""
    runs: FileRuns = request.app.state["files"]
    key, preference = idempotency_key(request), preference_of(request)
    job_id = new_id() if key is None else job_id_of(request, key)
    if key is None or await asyncio.to_thread(runs.spool.find, job_id) is None:
        await request.app.fleet.check_known(model_of(request))
    arriving = await asyncio.to_thread(runs.spool.arriving)
    try:
        with arriving.held():
            task = await _receive_task(request, arriving)
            if key is not None:
                submission = Submission(
                    task.principal, task.model, task.fingerprint, False, now_text()
                )
                kept_ms = request.app.settings.gateway_files_s * 1000
                await claim(request.app.client.transport, job_id, submission, kept_ms)
            state = JobState(
                id=job_id,
                status=JobStatus.QUEUED,
                model=task.model,
                created_at=task.created_at,
                rows=0,
                rejected=0,
            )
            await asyncio.to_thread(arriving.write, "state.json", state)
            await asyncio.to_thread(arriving.write, "job.json", task)
        stored = await asyncio.to_thread(runs.spool.keep, arriving, job_id)
    except BaseException:
        arriving.remove()
        raise
    if stored is None:
        # The same request came under this key before.
        await asyncio.to_thread(arriving.remove)
        job = await runs.find(job_id, task.principal)
        if job is None:
            raise JobLost(job_id)
    else:
        job = FileJob(stored, task)
        runs.begin(stored)
    if preference.is_async:
        return accepted(await job.state(), preference)
    try:
        with WhileConnected(request):
            await wait_until_over(job, math.inf)
    except CallerGone:
        # Without a key, nobody can ask for the job again.
        if key is None:
            await job.remove()
        raise
    return await job.result(0)


async def _receive_task(request: Request, arriving: StoredJob) -> FileTask:
    """Receive the body into the folder of its job; returns the task.

    Raises:
        HttpRefused: the body is no file, or an option is not known.
        HttpRefused, CallerGone, PayloadTooLarge: as for `_receive`.
    """
    model = model_of(request)
    query = list(request.query_params.multi_items())
    options = file_options(query)
    packed = request.query_params.get("compression")
    content = content_type(request)[0]
    if content not in (*KINDS, "", "application/octet-stream"):
        message = f"the content type {content[:60]!r} is none of a file: {', '.join(KINDS)}"
        raise HttpRefused(415, HttpCode.MEDIA_TYPE, message)
    if packed is not None and packed not in PACKED:
        message = f"compression in the query is {packed[:40]!r}; expected gzip or zstd"
        raise HttpRefused(400, HttpCode.BAD_REQUEST, message)
    digest, begin = await _receive(request, arriving.input, request.app.state["files"].spool)
    kind = options.input_format or KINDS.get(content) or _kind_of(begin)
    if packed is not None and (options.output_format or kind) == "parquet":
        message = f"compression in the query is {packed!r}; expected none: Parquet is packed within"
        raise HttpRefused(400, HttpCode.BAD_REQUEST, message)
    request_text = f"{model}\0{kind}\0{sorted(query)}\0file\0{digest}"
    return FileTask(
        principal=principal_of(request).name,
        model=model,
        kind=kind,
        output=f"output.{kind}{PACKED[packed] if packed else ''}",
        query=query,
        fingerprint=hashlib.sha256(request_text.encode()).hexdigest(),
        created_at=now_text(),
    )


async def _receive(request: Request, path: Path, spool: Spool) -> tuple[str, bytes]:
    """Write the body into a file as it arrives; returns its sha256, and its beginning.

    Raises:
        HttpRefused: there is no room for it, or nothing came for too long.
        CallerGone, PayloadTooLarge: as for `body_pieces`.
    """
    settings = request.app.settings
    digest, begin, waiting = hashlib.sha256(), b"", bytearray()
    with path.open("xb", buffering=0) as file:

        def write() -> bool:
            digest.update(waiting)
            file.write(waiting)
            waiting.clear()
            return spool.has_room()

        try:
            async with aclosing(body_pieces(request, settings.gateway_files_mb << 20)) as pieces:
                arriving = aiter(pieces)
                while True:
                    async with asyncio.timeout(settings.gateway_body_s):
                        piece = await anext(arriving, None)
                    if piece is not None:
                        begin = begin or piece[:64]
                        waiting += piece
                    if len(waiting) >= WRITE_BYTES or piece is None:
                        is_kept = await asyncio.to_thread(write)
                        if not is_kept:
                            message = "the gateway's disk has no room for this file now"
                            headers = {"Retry-After": "60"}
                            raise HttpRefused(507, Code.DISK_FULL, message, headers=headers)
                    if piece is None:
                        await asyncio.to_thread(os.fsync, file.fileno())
                        return digest.hexdigest(), begin
        except TimeoutError:
            message = f"nothing of the body came for {settings.gateway_body_s:g} s"
            raise HttpRefused(408, HttpCode.SLOW_BODY, message) from None


def _kind_of(begin: bytes) -> Kind:
    """The format of a file that its sender does not name, by its first bytes."""
    if begin.startswith(b"PAR1"):
        return "parquet"
    return "jsonl" if begin.lstrip().startswith(b"{") else "csv"


async def errors(request: Request) -> Response:
    """The report on the rows of a file that were rejected."""
    job = await job_of(request)
    if not isinstance(job, FileJob):
        raise HttpRefused(404, HttpCode.NOT_FOUND, "this job is none of a file: see its result")
    return await job.errors()


@asynccontextmanager
async def lifespan(gateway: Gateway) -> AsyncIterator[None]:
    """Score the files of the spool while the gateway runs."""
    settings = gateway.settings
    spool = Spool(
        Path(settings.gateway_files),
        most_bytes=settings.gateway_files_mb << 20,
        kept_s=settings.gateway_files_s,
    )
    runs = gateway.state["files"] = FileRuns(gateway.client, spool)
    following = asyncio.create_task(runs.follow())
    try:
        yield
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await runs.close()


routes = [
    route("/v1/models/{model}/score", score, right=Right.JOBS, methods=("PUT",)),
    route("/v1/jobs/{job}/errors", errors, right=Right.JOBS),
]
