"""Scores a CSV file through the bulk lane: cut, send, write answers in order.

The client never looks at a value. It cuts the file at row ends and keeps a few chunks on their way;
workers parse, score and hand back the same lines with the answers appended. So memory stays
constant, whatever the file's size.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from scoreline_client.codes import Code
from scoreline_client.csv_cutter import MAX_ROW_BYTES, Chunk, CsvCutter
from scoreline_client.csv_header import Header, check_header, read_header
from scoreline_client.errors import FileRefused, NoAnswer, QueueFull, RequestRefused
from scoreline_client.keys import Lane
from scoreline_client.options import CsvChunk
from scoreline_client.requests import raise_refusal
from scoreline_client.settings import ClientSettings
from scoreline_client.transport import Transport
from scoreline_client.wire import Answer, Codec, Operation, Request, new_id

DELIMITER = ","
CHUNK_BYTES = 1 << 20
SMALLEST_CHUNK_BYTES = 1 << 16
WINDOW = 8
"""Chunks on their way at a time: enough to keep some processes busy, few enough to hold in memory."""
CHUNK_EXPIRES_S = 3600
DESCRIBE_TIMEOUT_S = 10.0
PATIENCE_S = 10.0
"""Seconds without an answer after which the client looks whether any worker is alive."""
FULL_TRIES = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvProgress:
    """How far a file is."""

    rows: int
    """Rows written."""
    rejected: int
    bytes_done: int
    """Bytes of the input whose rows are written."""
    bytes_total: int
    seconds: float
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreSummary:
    """What became of a file."""

    rows: int
    scored: int
    rejected: int
    rejected_by_code: dict[str, int]
    model: str
    version: int
    seconds: float


@dataclass(slots=True)
class _Tally:
    rows: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    bytes_done: int = 0


async def score_csv(
    transport: Transport,
    settings: ClientSettings,
    model: str,
    source: Path,
    target: Path,
    *,
    progress: Callable[[CsvProgress], None] | None = None,
) -> ScoreSummary:
    """Score `source` into `target`; see AsyncClient.score_csv."""
    started = time.monotonic()
    _check_target(source, target)
    with _open(source) as file:
        size = os.fstat(file.fileno()).st_size
        header = await asyncio.to_thread(_read_header, file, str(source))
        described = await _describe(transport, model)
        added = _added_columns(described)
        needed = [one["name"] for one in (described.description or {}).get("columns", [])]
        check_header(str(source), header, needed, added, DELIMITER)
        ref = f"{described.model}@{described.version}"
        job = _Job(transport, settings, ref, header, size, progress, started)
        with _replacing(target) as out:
            out.write(header.with_columns(added, DELIMITER))
            await job.run(_chunks(file, header, size, str(source)), out)
    codes = dict(job.tally.codes)
    rejected = sum(codes.values())
    return ScoreSummary(
        rows=job.tally.rows,
        scored=job.tally.rows - rejected,
        rejected=rejected,
        rejected_by_code=codes,
        model=described.model,
        version=described.version,
        seconds=time.monotonic() - started,
    )


class _Job:
    """Chunks on their way, and what came back."""

    def __init__(
        self,
        transport: Transport,
        settings: ClientSettings,
        ref: str,
        header: Header,
        size: int,
        progress: Callable[[CsvProgress], None] | None,
        started: float,
    ) -> None:
        self.tally = _Tally()
        self._transport = transport
        self._settings = settings
        self._ref = ref
        self._header = header
        self._size = size
        self._progress = progress
        self._started = started

    async def run(self, chunks: Iterator[Chunk], out: IO[bytes]) -> None:
        """Send every chunk and write every answer, in order."""
        on_their_way: deque[tuple[Chunk, asyncio.Task[Answer]]] = deque()
        try:
            while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
                on_their_way.append((chunk, asyncio.create_task(self._score(chunk))))
                while len(on_their_way) >= WINDOW:
                    await self._write(*on_their_way.popleft(), out)
            while on_their_way:
                await self._write(*on_their_way.popleft(), out)
        finally:
            for _, task in on_their_way:
                task.cancel()
            await asyncio.gather(*(task for _, task in on_their_way), return_exceptions=True)

    async def _score(self, chunk: Chunk) -> Answer:
        head = CsvChunk(
            columns=self._header.columns, first_row=chunk.first_row, first_line=chunk.first_line
        )
        request = Request(
            id=new_id(),
            model=self._ref,
            body=head.encode(chunk.rows),
            codec=Codec.CSV,
            reply_to=self._transport.client_id,
            expires_ms=CHUNK_EXPIRES_S * 1000,
        )
        for attempt in range(FULL_TRIES):
            try:
                return await self._answer(request)
            except QueueFull as full:
                if attempt == FULL_TRIES - 1:
                    raise
                # A file has time: it waits until those who have not are served.
                await asyncio.sleep(full.retry_after_s)
        raise AssertionError("the loop returns or raises")  # pragma: no cover

    async def _answer(self, request: Request) -> Answer:
        future = self._transport.send(request, Lane.BULK)
        sent = time.monotonic()
        while not (await asyncio.wait({future}, timeout=PATIENCE_S))[0]:
            if not await self._transport.is_served():
                waited = time.monotonic() - sent
                future.cancel()
                raise NoAnswer(request.id, waited, await self._transport.diagnose())
        answer = future.result()
        raise_refusal(answer)
        return answer

    async def _write(self, chunk: Chunk, task: asyncio.Task[Answer], out: IO[bytes]) -> None:
        answer = await task
        if answer.records != chunk.count:
            message = (
                f"the worker answered {answer.records} rows for the {chunk.count} rows from row "
                f"{chunk.first_row} (line {chunk.first_line}) on"
            )
            raise RequestRefused(Code.INTERNAL, message)
        await asyncio.to_thread(out.write, answer.body)
        self.tally.rows += answer.records
        self.tally.codes.update(answer.rejected)
        self.tally.bytes_done = chunk.offset + len(chunk.rows)
        if self._progress is not None:
            self._progress(
                CsvProgress(
                    rows=self.tally.rows,
                    rejected=sum(self.tally.codes.values()),
                    bytes_done=self.tally.bytes_done,
                    bytes_total=self._size,
                    seconds=time.monotonic() - self._started,
                    version=answer.version,
                )
            )


async def _describe(transport: Transport, model: str) -> Answer:
    request = Request(
        id=new_id(),
        model=model,
        operation=Operation.DESCRIBE,
        reply_to=transport.client_id,
        expires_ms=int(DESCRIBE_TIMEOUT_S * 1000),
    )
    answer = await transport.ask(request, Lane.ONLINE, DESCRIBE_TIMEOUT_S)
    raise_refusal(answer)
    return answer


# The file


def _open(source: Path) -> IO[bytes]:
    try:
        return source.open("rb")
    except OSError as error:
        raise FileRefused(Code.FILE, str(source), f"it cannot be read: {error.strerror}") from error


def _check_target(source: Path, target: Path) -> None:
    if target.exists() and source.exists() and target.samefile(source):
        raise FileRefused(Code.FILE, str(target), "input and output are the same file")
    if not target.parent.is_dir():
        raise FileRefused(Code.FILE, str(target), f"there is no directory {target.parent}")


class _replacing:  # noqa: N801 - used like a function
    """A file beside the target that takes its place when all went well, and is gone when not."""

    def __init__(self, target: Path) -> None:
        self._target = target

    def __enter__(self) -> IO[bytes]:
        try:
            self._file = tempfile.NamedTemporaryFile(
                dir=self._target.parent,
                prefix=f".{self._target.name}.",
                suffix=".part",
                delete=False,
            )
        except OSError as error:
            message = f"it cannot be written: {error.strerror}"
            raise FileRefused(Code.FILE, str(self._target), message) from error
        return self._file.file

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        part = Path(self._file.name)
        try:
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()
                mask = os.umask(0)
                os.umask(mask)
                part.chmod(0o666 & ~mask)
                part.replace(self._target)
        finally:
            self._file.close()
            part.unlink(missing_ok=True)


def _read_header(file: IO[bytes], path: str) -> Header:
    start = file.read(MAX_ROW_BYTES)
    header = read_header(path, start, delimiter=DELIMITER, whole=len(start) < MAX_ROW_BYTES)
    file.seek(header.size)
    return header


def _added_columns(described: Answer) -> list[str]:
    outputs = (described.description or {}).get("outputs", {})
    classes = outputs.get("classes") or []
    return ["prediction", *(f"probability_{label}" for label in classes), "error"]


def _chunks(file: IO[bytes], header: Header, size: int, path: str) -> Iterator[Chunk]:
    """Slices of whole rows; small files are cut small, so that several processes share them."""
    chunk_bytes = min(CHUNK_BYTES, max(SMALLEST_CHUNK_BYTES, size // WINDOW))
    cutter = CsvCutter(path, first_line=header.lines + 1, offset=header.size)
    while block := file.read(chunk_bytes):
        if (chunk := cutter.feed(block)) is not None:
            yield chunk
    if (chunk := cutter.finish()) is not None:
        yield chunk


def summary_json(summary: ScoreSummary) -> dict[str, Any]:
    """A summary as JSON-able values."""
    return {
        "rows": summary.rows,
        "scored": summary.scored,
        "rejected": summary.rejected,
        "rejected_by_code": summary.rejected_by_code,
        "model": summary.model,
        "version": summary.version,
        "seconds": round(summary.seconds, 3),
    }
