"""Scores a file into another file: chunks out, answers back in order, and a checkpoint after each.

Memory stays constant, whatever the file's size: a chunk is read only when the job's window has room, and
an answer is written before the next is awaited.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing, closing, suppress
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from scoreline_client.codes import Code
from scoreline_client.errors import FileRefused, TooManyErrors, UnknownModel
from scoreline_client.files.checkpoint import Journal, Mark, Run, locked_journal, resumable
from scoreline_client.files.chunks import answered_chunks, describe, open_reader
from scoreline_client.files.doubts import Doubts
from scoreline_client.files.reader import (
    DEFAULT_SIZES,
    Chunk,
    ChunkOutput,
    FileReader,
    FileSizes,
    ModelInfo,
    Position,
)
from scoreline_client.files.sink import (
    ErrorReport,
    Output,
    PartFile,
    Target,
    compressor,
    writing,
)
from scoreline_client.files.source import Source, compression_by_name, open_source
from scoreline_client.options import BulkOptions
from scoreline_client.protocol.job_progress import JobProgress
from scoreline_client.protocol.messages import ModelRef
from scoreline_client.settings import ClientSettings
from scoreline_client.shown import shown_name, shown_text
from scoreline_client.transport.dispatcher import Transport
from scoreline_client.transport.ordered import DEFAULT_TIMES, BulkTimes

LONGEST_NAME = 200
"""Characters of an input's name that are shown to whoever watches the queue."""
READER_CHECK_S = 0.1
"""Seconds between two checks of whether somebody has opened a named pipe to read the output."""

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkProgress:
    """How far a file is."""

    rows: int
    """Rows written, with those of the run that is resumed."""
    rejected: int
    done: int
    """How much of the input that is."""
    total: int | None
    """How much there is; None if that is unknown."""
    unit: str
    """The unit of `done` and `total`: bytes or rows."""
    seconds: float
    """How long it took so far, with the run that is resumed."""
    rows_per_s: float
    """Rows a second in this run."""
    seconds_left: float | None
    """How long the rest will take at this run's pace; None if that is unknown."""
    version: int
    """The version that scores; 0 as long as no worker has named it."""
    source: str
    """The input's name."""
    waiting: str | None = None
    """Why the run makes no progress at this moment; None if it does."""

    @property
    def percent(self) -> float | None:
        """How much of the input is done; None if that is unknown."""
        if self.total is None:
            return None
        return 100.0 if self.total == 0 else min(100.0, 100 * self.done / self.total)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        percent = None if self.percent is None else round(self.percent, 2)
        values = asdict(self) | {"percent": percent}
        for name in ("seconds", "rows_per_s", "seconds_left"):
            if values[name] is not None:
                values[name] = round(values[name], 3)
        return {"event": "progress", **values}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreSummary:
    """The result of scoring a file: its counts, and where the output is."""

    rows: int
    scored: int
    rejected: int
    rejected_by_code: dict[str, int]
    warnings: dict[str, int]
    """How many values each kind of warning is about, by `code column`."""
    model: str
    version: int
    seconds: float
    rows_per_s: float
    source: str
    target: str
    errors: str | None = None
    """The error report's name, if there is a report."""
    notes: tuple[str, ...] = ()
    """How the file was read, as far as the caller should know it."""
    media_type: str = ""
    """What the output is, as HTTP names it: `text/csv; charset=utf-8`."""

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        rounded = {"seconds": round(self.seconds, 3), "rows_per_s": round(self.rows_per_s, 1)}
        return {"event": "summary", **asdict(self), **rounded}


@dataclass(slots=True)
class RunCounts:
    """The counts of a run, with those of the run that it resumes."""

    rows: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    warned: Counter[str] = field(default_factory=Counter)
    doubts: Doubts = field(default_factory=Doubts)
    seconds_before: float = 0.0
    rows_before: int = 0

    @property
    def rejected_rows(self) -> int:
        """Rejected rows of all codes."""
        return self.rejected.total()


async def score_file(
    transport: Transport,
    settings: ClientSettings,
    model: str,
    source_name: str,
    target_name: str,
    *,
    options: BulkOptions | None = None,
    progress: Callable[[BulkProgress], None] | None = None,
    owner: str | None = None,
    sizes: FileSizes = DEFAULT_SIZES,
    times: BulkTimes = DEFAULT_TIMES,
) -> ScoreSummary:
    """Score a file; see AsyncClient.score_file."""
    options = options or BulkOptions()
    target = Target(target_name, settings.state)
    await asyncio.to_thread(target.check, source_name)
    opened = await asyncio.to_thread(open_source, source_name, sizes)
    with closing(opened) as source, locked_journal(target, options) as journal:
        run = FileRun(transport, source, target, options, journal, progress, sizes, times, owner)
        return await run.score(model)


@dataclass
class FileRun:
    """A file on its way from input to output."""

    transport: Transport
    source: Source
    target: Target
    options: BulkOptions
    journal: Journal | None
    """None for a stream."""
    progress: Callable[[BulkProgress], None] | None
    sizes: FileSizes
    times: BulkTimes
    owner: str | None
    """Who runs it; None for this process's user."""

    def __post_init__(self) -> None:
        self._owner = self.owner or ""
        if not self._owner:
            try:
                self._owner = getpass.getuser()
            except (KeyError, OSError):  # a container may have no name for its user
                self._owner = str(os.getuid()) if hasattr(os, "getuid") else ""
        self._started = time.monotonic()
        self._counts = RunCounts()
        self._version = 0
        self._done = 0
        self._total: int | None = None
        self._unit = "bytes"
        self._notes_at_start = 0
        """How many notes there were when the first row was read."""
        self._notes_before: tuple[str, ...] = ()
        """Notes about the rows of the run that is resumed."""
        self._model: ModelInfo
        self._reader: FileReader[Any]
        self._output: Output
        self._report: ErrorReport

    async def score(self, model: str) -> ScoreSummary:
        """Score all rows that are not scored yet, and publish the output; see AsyncClient.score_file."""
        before, marks = self._unfinished_run(model)
        try:
            ref = model if before is None else f"{before.model}@{before.version}"
            self._model = await describe(
                self.transport, ref, on_unserved=self._show, times=self.times
            )
        except UnknownModel as error:
            if before is None:
                raise
            reason = (
                f"version {before.version} of {before.model!r}, with which it was begun, is gone"
            )
            raise self._unresumable(reason) from error
        self._reader = open_reader(
            self.source,
            self.target.name,
            self.options,
            wants_problems=not self.target.is_stream,
            is_stream=self.target.is_stream,
            sizes=self.sizes,
        )
        header, first = await asyncio.to_thread(self._reader.begin, self._model)
        self._version = self._model.version
        self._total, self._unit = self._reader.total, self._reader.unit
        stream = None
        # The operating system does not report when a pipe gets a reader.
        while self.target.is_stream and (stream := self.target.open_stream()) is None:  # noqa: ASYNC110
            await asyncio.sleep(READER_CHECK_S)
        start = await asyncio.to_thread(self._begin_or_resume, header, first, before, marks, stream)
        try:
            answered = answered_chunks(
                self.transport,
                self._model,
                self._reader,
                start,
                total_bytes=self.source.size,
                on_unserved=self._show,
                progress=self._job_progress,
                sizes=self.sizes,
                times=self.times,
            )
            async with aclosing(answered):
                async for chunk, answer in answered:
                    output = await asyncio.to_thread(self._reader.output, chunk, answer)
                    await _to_completion(self._write, chunk, output)
                    self._done = chunk.done
                    self._show()
                    self._check_errors(at_end=False)
            self._check_errors(at_end=True)
            await asyncio.to_thread(self.source.check_unchanged)
            await _to_completion(self._publish)
        except BaseException:
            # Scored rows are kept for --resume; without any, no file is left. The error that
            # ended the run is raised, and not that of closing or removing files.
            with suppress(OSError):
                self._output.close()
            with suppress(OSError):
                if self.journal is not None and self._counts.rows == 0:
                    self.target.discard()
                    self.journal.remove()
                    self.target.tidy()
            raise
        return self._summary()

    def _unfinished_run(self, model: str) -> tuple[Run | None, list[Mark]]:
        """The run to be resumed and its marks, if there is any.

        Raises:
            FileRefused: it was begun with another model or version.
        """
        if self.journal is None or not self.options.resume or not self.target.is_unfinished():
            return None, []
        with writing(self.target.name):
            run, marks = self.journal.read()
        if run is not None:
            ref = ModelRef.parse(model)
            if ref.name != run.model or ref.version not in (None, run.version):
                raise self._unresumable(f"it was begun with {run.model}@{run.version}")
        return run, marks

    def _begin_or_resume(
        self,
        header: bytes,
        first: Position,
        before: Run | None,
        marks: list[Mark],
        stream: Any,
    ) -> Position:
        """Open output and error report, empty or where an unfinished run stopped; where reading begins.

        `stream` is the open output, if it is no file.

        Raises:
            FileRefused: the unfinished run had another input, other options or other columns.
        """
        target, journal, sizes = self.target, self.journal, self.sizes
        compress = compressor(compression_by_name(target.name)[0])
        if journal is None:
            self._output = Output(stream, compress, block_bytes=sizes.block_bytes)
            self._report = ErrorReport(None)
            with writing(target.name, is_kept=False):
                try:
                    self._output.write(header)
                except OSError:
                    self._output.close()
                    raise
            return first
        facts = self.source.facts
        if facts is None and before is not None:
            raise self._unresumable("its input cannot be read twice")
        run = Run(
            input=facts or {},
            options={**self.options.bound(), "target": target.final.name},
            model=self._model.model,
            version=self._model.version,
            header=header.hex(),
        )
        mark = None
        if before is not None:
            if (difference := before.difference(run)) is not None:
                is_changed = before.input != run.input
                code = Code.INPUT_CHANGED if is_changed else Code.UNFINISHED
                raise self._unresumable(difference, code)
            errors = target.errors_part.stat().st_size if target.errors_part.exists() else 0
            mark = resumable(marks, target.part.stat().st_size, errors)
        with writing(target.name, is_kept=mark is not None):
            if mark is None:
                target.discard()
                journal.clear()
            plain, flushed = (0, (0, 0)) if mark is None else (mark.plain, mark.flushed)
            part = PartFile(target.part, flushed[1], sizes.sync_bytes)
            self._output = Output(
                part, compress, plain=plain, flushed=flushed, block_bytes=sizes.block_bytes
            )
            self._report = ErrorReport(target.errors_part, 0 if mark is None else mark.errors)
            if mark is not None:
                rows = mark.position.row - 1
                rejected, warned = Counter(mark.rejected), Counter(mark.warned)
                doubts = Doubts(dict(mark.doubts))
                self._counts = RunCounts(rows, rejected, warned, doubts, mark.seconds, rows)
                self._notes_before = mark.notes
                self._reader.notes += [*mark.notes, f"resumed behind row {rows:,}"]
                self._notes_at_start = len(self._reader.notes)
                return mark.position
            self._notes_at_start = len(self._reader.notes)
            try:
                self._output.write(header)
                journal.append(run)
                self._checkpoint(first)
            except OSError:
                self._output.close()
                target.discard()
                raise
        return first

    def _write(self, chunk: Chunk, output: ChunkOutput) -> None:
        with writing(self.target.name, is_kept=self._is_kept):
            self._output.write(output.data)
            self._report.write(output.problems)
            self._counts.rows += chunk.count
            self._counts.rejected.update(output.rejected)
            for warning in output.warned:
                name = f"{warning['code']} {warning['column']}"
                self._counts.warned[name] += warning["count"]
            self._counts.doubts.add(output.report)
            self._counts.doubts.add_problems(output.problems)
            self._counts.doubts.add_longer(output.longer)
            self._checkpoint(chunk.end)

    def _checkpoint(self, position: Position) -> None:
        if self.journal is not None:
            counts = self._counts
            mark = Mark(
                position=position,
                plain=self._output.plain,
                flushed=self._output.flushed,
                errors=self._report.length,
                rejected=dict(counts.rejected),
                warned=dict(counts.warned),
                doubts=dict(counts.doubts.counts),
                notes=(*self._notes_before, *self._reader.notes[self._notes_at_start :]),
                seconds=round(counts.seconds_before + time.monotonic() - self._started, 3),
            )
            self.journal.append(mark)

    @property
    def _is_kept(self) -> bool:
        """Whether some rows are scored already, for a run that is resumed."""
        return self.journal is not None and self._counts.rows > 0

    def _publish(self) -> None:
        with writing(self.target.name, is_kept=self._is_kept):
            self._output.finish()
            self._output.close()
            if self.journal is not None:
                self.target.publish(self._reader.finish)
                self.journal.remove()
                self.target.tidy()

    def _check_errors(self, *, at_end: bool) -> None:
        limit, counts = self.options.max_errors, self._counts
        if limit is None or not limit.exceeded(counts.rejected_rows, counts.rows, at_end=at_end):
            return
        where = f"They are listed in {self.target.errors_part}; a run with a higher limit and --resume goes on"
        if self.source.facts is None:
            where = f"They are listed in {self.target.errors_part}"
        if self.target.is_stream:
            where = "They have their errors in their own lines"
        raise TooManyErrors(self.source.name, counts.rejected_rows, counts.rows, str(limit), where)

    def _show(self, unserved_s: float | None = None) -> None:
        """Call `progress`; `unserved_s`: for how many seconds no worker has been alive."""
        if self.progress is not None:
            self.progress(self._progress(unserved_s))

    def _job_progress(self) -> JobProgress:
        """This run's progress, for whoever watches the queue."""
        progress = self._progress(None)
        return JobProgress(
            host=socket.gethostname(),
            source=shown_text(progress.source.rpartition("/")[2], in_line=True)[:LONGEST_NAME],
            owner=shown_text(self._owner, in_line=True)[:LONGEST_NAME],
            model=self._model.model,
            version=progress.version,
            rows=progress.rows,
            rejected=progress.rejected,
            percent=progress.percent,
            rows_per_s=progress.rows_per_s,
            seconds=progress.seconds,
            seconds_left=progress.seconds_left,
        )

    def _progress(self, unserved_s: float | None) -> BulkProgress:
        counts, total, done = self._counts, self._total, self._done
        seconds = time.monotonic() - self._started
        rows_here = counts.rows - counts.rows_before
        seconds_left = None
        if total and done and rows_here:
            # At this run's pace: the rows of the run that it resumes are not in its seconds.
            rows_left = max(0.0, counts.rows * total / done - counts.rows)
            seconds_left = rows_left * seconds / rows_here
        waiting = None
        if unserved_s is not None:
            limit_s = self.times.unserved_patience_s
            waiting = f"no worker for {unserved_s:.0f} s; waiting until {limit_s:g} s"
        return BulkProgress(
            rows=counts.rows,
            rejected=counts.rejected_rows,
            done=done,
            total=total,
            unit=self._unit,
            seconds=seconds + counts.seconds_before,
            rows_per_s=rows_here / seconds if seconds else 0.0,
            seconds_left=seconds_left,
            version=self._version,
            source=shown_name(self.source.name),
            waiting=waiting,
        )

    def _summary(self) -> ScoreSummary:
        counts = self._counts
        seconds = time.monotonic() - self._started
        return ScoreSummary(
            rows=counts.rows,
            scored=counts.rows - counts.rejected_rows,
            rejected=counts.rejected_rows,
            rejected_by_code=dict(sorted(counts.rejected.items())),
            warnings=dict(sorted(counts.warned.items())),
            model=self._model.model,
            version=self._model.version,
            seconds=seconds + counts.seconds_before,
            rows_per_s=(counts.rows - counts.rows_before) / seconds if seconds else 0.0,
            source=shown_name(self.source.name),
            target=shown_name(self.target.name),
            errors=self.target.errors_name if self._report.length else None,
            notes=(*self._reader.notes, *counts.doubts.notes(counts.rows)),
            media_type=self._reader.media_type,
        )

    def _unresumable(self, reason: str, code: Code = Code.UNFINISHED) -> FileRefused:
        message = f"the unfinished run cannot be resumed: {reason}. To begin anew: --restart"
        return FileRefused(code, self.target.name, message)


async def _to_completion(work: Callable[..., _Result], *arguments: Any) -> _Result:
    """Do work in a thread; a caller that is cancelled meanwhile waits until it is done."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
