"""Scores a file into another one: pieces out, answers back in order, and a journal of how far it is.

Memory stays constant, whatever the file's size: one piece is read, a window of pieces is on its way,
and an answer is written before the next is waited for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass

from scoreline_client.codes import Code
from scoreline_client.errors import (
    FileRefused,
    TooManyErrors,
    UnknownModel,
)
from scoreline_client.files.checkpoint import Journal, Mark, Run, resumable
from scoreline_client.files.compression import compression_by_name, compressor
from scoreline_client.files.error_report import ErrorReport
from scoreline_client.files.formats.opening import open_reader
from scoreline_client.files.formats.pieces import Described, Piece, Place, Reader, Written
from scoreline_client.files.progress import BulkProgress, ScoreSummary, Tally
from scoreline_client.files.sink import Output, PartFile, Target, standard_output, writing
from scoreline_client.files.source import Source, open_source
from scoreline_client.options import BulkOptions
from scoreline_client.protocol.messages import ModelRef
from scoreline_client.settings import ClientSettings
from scoreline_client.transport.asking import answers, describe
from scoreline_client.transport.dispatcher import Transport
from scoreline_client.transport.lane import UNSERVED_PATIENCE_S
from scoreline_client.transport.window import to_the_end

Show = Callable[[BulkProgress], None]


async def score_file(
    transport: Transport,
    settings: ClientSettings,
    model: str,
    source_name: str,
    target_name: str,
    *,
    options: BulkOptions | None = None,
    progress: Show | None = None,
) -> ScoreSummary:
    """Score a file; see AsyncClient.score_file."""
    options = options or BulkOptions()
    target = Target(target_name, settings.state)
    await asyncio.to_thread(target.check, source_name)
    source = await asyncio.to_thread(open_source, source_name)
    try:
        async with _journal(target, options) as journal:
            run = _FileRun(transport, source, target, options, journal, progress)
            return await run.score(model)
    finally:
        source.close()


@asynccontextmanager
async def _journal(target: Target, options: BulkOptions) -> AsyncIterator[Journal | None]:
    """The output's journal, which nobody else has meanwhile.

    Raises:
        FileRefused: an unfinished run is in the way.
    """
    if target.is_stream:
        if options.resume:
            message = "what went to standard output cannot be resumed; name an output file"
            raise FileRefused(Code.UNFINISHED, target.name, message)
        yield None
        return
    with writing(target.name):
        was_there = target.journal.exists()
        journal = Journal.open(target.journal)
    try:
        if target.is_unfinished() and not (options.resume or options.restart):
            message = (
                f"an unfinished run is there ({target.part}): go on with it (--resume), or begin "
                "anew and lose it (--restart)"
            )
            raise FileRefused(Code.UNFINISHED, target.name, message)
        yield journal
    finally:
        # Whoever fails before there is something to resume leaves nothing behind.
        with suppress(OSError):
            if not was_there and not target.part.exists():
                journal.path.unlink(missing_ok=True)
        journal.close()


@dataclass(slots=True)
class _Writers:
    """What a run writes to."""

    output: Output
    report: ErrorReport


class _FileRun:
    """One file on its way."""

    def __init__(
        self,
        transport: Transport,
        source: Source,
        target: Target,
        options: BulkOptions,
        journal: Journal | None,
        progress: Show | None,
    ) -> None:
        self._transport = transport
        self._source = source
        self._target = target
        self._options = options
        self._journal = journal
        self._progress = progress
        self._started = time.monotonic()
        self._tally = Tally()
        self._done = 0
        self._reader: Reader
        self._described: Described
        self._writers: _Writers

    async def score(self, model: str) -> ScoreSummary:
        """Begin or go on, and come to the end."""
        run, marks = self._found()
        ref = model if run is None else f"{run.model}@{run.version}"
        self._check_same_model(model, run)
        self._described = await self._describe(ref, run)
        place = await asyncio.to_thread(self._begin, run, marks)
        try:
            await self._score_from(place)
            await to_the_end(self._finish)
        except BaseException:
            self._keep_or_discard()
            raise
        return self.summary()

    def summary(self) -> ScoreSummary:
        """The counts so far."""
        tally, target = self._tally, self._target
        seconds = time.monotonic() - self._started
        rejected = tally.rejected_rows
        return ScoreSummary(
            rows=tally.rows,
            scored=tally.rows - rejected,
            rejected=rejected,
            rejected_by_code=dict(sorted(tally.rejected.items())),
            warnings=dict(sorted(tally.warned.items())),
            model=self._described.model,
            version=self._described.version,
            seconds=seconds + tally.seconds_before,
            rows_per_s=(tally.rows - tally.rows_before) / seconds if seconds else 0.0,
            source=self._source.name,
            target=target.name,
            errors=target.errors_name if self._writers.report.length else None,
            notes=tuple(self._reader.notes),
        )

    # Beginning

    def _found(self) -> tuple[Run | None, list[Mark]]:
        if self._journal is None or not self._options.resume or not self._target.is_unfinished():
            return None, []
        with writing(self._target.name):
            return self._journal.read()

    def _check_same_model(self, model: str, run: Run | None) -> None:
        if run is None:
            return
        asked = ModelRef.parse(model)
        if asked.name != run.model or asked.version not in (None, run.version):
            raise self._unfinished(f"it was begun with {run.model}@{run.version}")

    async def _describe(self, ref: str, run: Run | None) -> Described:
        try:
            return await describe(self._transport, ref)
        except UnknownModel as error:
            if run is None:
                raise
            gone = f"version {run.version} of {run.model!r}, with which it was begun, is gone"
            raise self._unfinished(gone) from error

    def _begin(self, run: Run | None, marks: list[Mark]) -> Place:
        """Open everything, at the beginning or where the last run stopped."""
        target, options = self._target, self._options
        self._reader = open_reader(
            self._source, target.name, options, wants_problems=not target.is_stream
        )
        header, place = self._reader.begin(self._described)
        compress = compressor(compression_by_name(target.name)[0])
        if self._journal is None:
            self._writers = _Writers(Output(standard_output(), compress), ErrorReport(None))
            self._write_header(header)
            return place
        this = self._this_run(header)
        mark = None if run is None else self._mark_to_resume(run, this, marks)
        with writing(target.name):
            if mark is not None:
                return self._go_on(mark, compress)
            self._begin_anew(this, header, place, compress)
        return place

    def _this_run(self, header: bytes) -> Run:
        facts = self._source.raw.facts
        if facts is None and self._options.resume:
            raise self._unfinished("its input cannot be read twice")
        return Run(
            facts or {},
            {**self._options.bound(), "target": self._target.final.name},
            self._described.model,
            self._described.version,
            header.hex(),
        )

    def _mark_to_resume(self, run: Run, this: Run, marks: list[Mark]) -> Mark | None:
        difference = run.difference(this)
        if difference is not None:
            code = Code.INPUT_CHANGED if run.input != this.input else Code.UNFINISHED
            raise self._unfinished(difference, code)
        target = self._target
        errors = target.errors_part.stat().st_size if target.errors_part.exists() else 0
        return resumable(marks, target.part.stat().st_size, errors)

    def _go_on(self, mark: Mark, compress: Callable[[bytes], bytes] | None) -> Place:
        target = self._target
        file = PartFile(target.part, mark.flushed[1])
        output = Output(file, compress, plain=mark.plain, flushed=mark.flushed)
        self._writers = _Writers(output, ErrorReport(target.errors_part, mark.errors))
        self._tally = Tally.of(mark)
        self._reader.notes.append(f"resumed behind row {mark.place.row - 1:,}")
        return mark.place

    def _begin_anew(
        self, this: Run, header: bytes, place: Place, compress: Callable[[bytes], bytes] | None
    ) -> None:
        target, journal = self._target, self._journal
        assert journal is not None  # noqa: S101 - only a stream has none
        target.discard()
        journal.clear()
        output = Output(PartFile(target.part, 0), compress)
        self._writers = _Writers(output, ErrorReport(target.errors_part))
        try:
            output.write(header)
            journal.begin(this)
            self._note(place)
        except OSError:
            output.close()
            target.discard()
            raise

    def _write_header(self, header: bytes) -> None:
        with writing(self._target.name):
            self._writers.output.write(header)

    def _unfinished(self, reason: str, code: Code = Code.UNFINISHED) -> FileRefused:
        message = f"the unfinished run cannot be resumed: {reason}. To begin anew: --restart"
        return FileRefused(code, self._target.name, message)

    # On the way

    async def _score_from(self, place: Place) -> None:
        found = answers(
            self._transport,
            self._described,
            self._reader,
            place,
            total_bytes=self._source.size,
            on_unserved=self._show_unserved,
        )
        async with aclosing(found):
            async for piece, answer in found:
                written = await asyncio.to_thread(self._reader.written, piece, answer)
                await to_the_end(self._write, piece, written)
                self._done = piece.done
                self._show()
                self._check_errors(at_end=False)
        self._check_errors(at_end=True)

    def _write(self, piece: Piece, written: Written) -> None:
        with writing(self._target.name):
            self._writers.output.write(written.data)
            self._writers.report.write(written.problems)
            self._tally.add(piece.count, written.rejected, written.warned)
            self._note(piece.end)

    def _note(self, place: Place) -> None:
        if self._journal is not None:
            self._journal.append(
                Mark(
                    place,
                    self._writers.output.plain,
                    self._writers.output.flushed,
                    self._writers.report.length,
                    dict(self._tally.rejected),
                    dict(self._tally.warned),
                    round(self._tally.seconds_before + time.monotonic() - self._started, 3),
                )
            )

    def _show_unserved(self, seconds: float | None) -> None:
        if seconds is None:
            self._show()
        else:
            self._show(f"no worker for {seconds:.0f} s; waiting until {UNSERVED_PATIENCE_S:g} s")

    def _show(self, waiting: str | None = None) -> None:
        if self._progress is None:
            return
        tally, total, done = self._tally, self._reader.total, self._done
        seconds = time.monotonic() - self._started
        share = done / total if total else None
        self._progress(
            BulkProgress(
                rows=tally.rows,
                rejected=tally.rejected_rows,
                done=done,
                total=total,
                unit=self._reader.unit,
                seconds=seconds + tally.seconds_before,
                rows_per_s=(tally.rows - tally.rows_before) / seconds if seconds else 0.0,
                seconds_left=self._left(share, seconds),
                version=self._described.version,
                source=self._source.name,
                waiting=waiting,
            )
        )

    def _left(self, share: float | None, seconds: float) -> float | None:
        """At the pace of this run alone: what a run before it did took it no time."""
        rows_here = self._tally.rows - self._tally.rows_before
        if not share or not rows_here:
            return None
        rows_in_all = self._tally.rows / share
        return max(0.0, (rows_in_all - self._tally.rows) * seconds / rows_here)

    def _check_errors(self, *, at_end: bool) -> None:
        limit, tally = self._options.max_errors, self._tally
        if limit is None or not limit.exceeded(tally.rejected_rows, tally.rows, at_end=at_end):
            return
        where = f"They are listed in {self._target.errors_part}"
        if self._target.is_stream:
            where = "They have their errors in their own lines"
        raise TooManyErrors(self._source.name, tally.rejected_rows, tally.rows, str(limit), where)

    # At the end

    def _finish(self) -> None:
        self._source.check_unchanged()
        with writing(self._target.name):
            self._writers.output.finish()
            self._writers.output.close()
            if self._journal is not None:
                self._target.publish(self._reader.complete)
                self._journal.remove()
                self._target.tidy()

    def _keep_or_discard(self) -> None:
        """What was scored is kept; where nothing was, nothing is left behind."""
        with suppress(OSError):
            self._writers.output.close()
        # What ended the run is to be told, and not that of this something could not be removed.
        with suppress(OSError):
            if self._journal is not None and self._tally.rows == 0:
                self._target.discard()
                self._journal.remove()
                self._target.tidy()
