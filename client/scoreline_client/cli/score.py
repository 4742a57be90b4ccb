"""`scoreline score`: files in, files out, and a progress bar or JSON lines meanwhile."""

from __future__ import annotations

import asyncio
import csv
import os
import shlex
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

from scoreline_client.async_client import AsyncClient
from scoreline_client.cli.kit import (
    PARTLY,
    REFUSED,
    SERVICE,
    command,
    counted,
    file_name,
    json_option,
    plain,
    print_json,
    say,
)
from scoreline_client.codes import Code, WarningCode
from scoreline_client.errors import FileRefused, ScorelineError, SettingsError
from scoreline_client.files.checkpoint import FinishedFiles
from scoreline_client.files.chunks import describe
from scoreline_client.files.run import BulkProgress, ScoreSummary
from scoreline_client.files.sink import Target, is_many, outputs_for
from scoreline_client.files.source import facts_of, is_read_once
from scoreline_client.options import (
    FORMATS,
    BulkOptions,
    Flag,
    Format,
    Policy,
    given_as_text,
    type_hints,
)
from scoreline_client.protocol.json_records import check_model
from scoreline_client.protocol.messages import ModelRef
from scoreline_client.shown import shown_name

BY_SIGNAL = 128
JSON_EVERY_S = 0.5

Show = Callable[[BulkProgress], None]

_F = TypeVar("_F", bound=Callable[..., Any])


class Stopped(Exception):
    """Raised when a signal ended a run in order."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def names_in(text: str | tuple[str, ...]) -> tuple[str, ...]:
    """The names of a comma-separated list; a name with a comma stands in quotes, as in a CSV file.

    Raises:
        BadParameter: there is none, as where a variable is not set.
    """
    names = text if isinstance(text, tuple) else tuple(next(csv.reader([text]), ()))
    if not names:
        raise click.BadParameter("it is empty; name a column (or say --only-predictions)")
    return names


_BY_TYPE: dict[Any, dict[str, Any]] = {
    bool: {"is_flag": True},
    Sequence[str]: {"multiple": True},
    Mapping[str, str]: {"multiple": True},
    # A function and no class: click's classes of types differ between its releases.
    tuple[str, ...]: {"type": names_in, "metavar": "A,B"},
    tuple[str, ...] | None: {"type": names_in, "metavar": "A,B"},
    Policy: {"type": click.Choice([policy.value for policy in Policy])},
    Format: {"type": click.Choice(FORMATS)},
}
"""How click reads the options of a type; all others are text."""


def _flags(*names: str) -> list[Callable[[_F], _F]]:
    """The flags of some fields of BulkOptions, in this order; a flag that is not given has no value."""
    hints, decorators = type_hints(BulkOptions), []
    for name in names:
        flag = next(extra for extra in hints[name].__metadata__ if isinstance(extra, Flag))
        settings = dict(_BY_TYPE.get(hints[name].__origin__, {}), help=flag.help)
        if flag.metavar:
            settings["metavar"] = flag.metavar
        if flag.show_default:
            settings |= {"default": str(getattr(BulkOptions, name)), "show_default": True}
        text = flag.name or f"--{name.replace('_', '-')}"
        decorators.append(click.option(text, name, **settings))
    return decorators


READING = _flags(
    "delimiter", "decimal", "thousands", "date_format", "encoding", "nulls", "comment", "trailing_delimiter",
    "input_format", "strict", "rename", "unseen", "out_of_range", "coerce",
)  # fmt: skip
_COLUMNS = _flags("keep", "drop", "id", "only_predictions", "outputs", "excel_safe")
_RUNNING = [
    *_flags("resume", "restart", "max_errors"),
    json_option("Print the summary as JSON, and progress as JSON lines to standard error."),
    click.option("--quiet", is_flag=True, help="Print nothing but errors."),
]  # fmt: skip


def with_options(options: list[Callable[[_F], _F]]) -> Callable[[_F], _F]:
    """Give a command several options."""

    def add(function: _F) -> _F:
        for option in reversed(options):
            function = option(function)
        return function

    return add


@command()
@click.argument("model")
@click.argument("sources", metavar="SOURCE...", nargs=-1, type=file_name)
@click.argument("target", type=file_name)
@with_options(READING)
@with_options(_COLUMNS)
@with_options(_RUNNING)
@click.pass_context
def score(
    ctx: click.Context,
    /,
    model: str,
    sources: tuple[str, ...],
    target: str,
    as_json: bool,
    quiet: bool,
    **flags: Any,
) -> None:
    """Score the file SOURCE with MODEL into TARGET.

    CSV, JSON Lines and Parquet; gzip and zstd; paths, URLs such as s3://…, and - for standard input
    and output. TARGET has SOURCE's columns as they are, then prediction, probability_<class> and
    error; one row for each row, in order, all of one version. It appears when it is complete, unless it
    is a named pipe or a device, which is written at once. Rows that cannot be scored are listed in
    TARGET.errors.csv. Several SOURCEs, a pattern in quotes, or a directory's tables go into the directory
    TARGET, and a total is printed.

    \b
    Exit codes:
      0  all rows scored
      1  some rows were rejected
      2  the file was refused, or the run stopped
      3  trouble with the service; --resume goes on
      130, 143  stopped by Ctrl-C or SIGTERM; --resume goes on
      141  who read standard output has closed it

    \b
    Examples:
      scoreline score pima in.csv out.csv
      scoreline score pima@3 in.csv.gz out.csv.gz --resume
      scoreline score pima in.csv out.csv --delimiter ';' --decimal , --null NA
      scoreline score pima in.parquet out.parquet --id patient_id --outputs prediction
      scoreline score pima 'visits/2024-*.csv' scored/ --max-errors 1%
      zcat in.csv.gz | scoreline score pima - - | head
    """
    if not sources:
        # click takes a single argument for the target, but it is meant as a source.
        raise click.MissingParameter(param_type="argument", param_hint="'TARGET'", ctx=ctx)
    options = options_of(flags)
    console = Console(stderr=True)
    with shown_progress(console, as_json=as_json, quiet=quiet) as show:
        run = _Run(model=model, options=options, progress=show, quiet=quiet, as_json=as_json)
        try:
            code = asyncio.run(_until_signal(run.score(sources, target)))
        except Stopped as stopped:
            code = BY_SIGNAL + stopped.number
            how = run.how_to_go_on(sources)
            say(f"stopped by {stopped}" + (f"; {how}" if how else ""), err=True)
        except ScorelineError as error:
            if isinstance(error.__cause__, BrokenPipeError) and run.is_to_stdout:
                # The exit code of a program that SIGPIPE has ended: `| head` has read enough.
                ctx.exit(BY_SIGNAL + signal.SIGPIPE)
            # The same command may well succeed when something else has changed.
            is_full = getattr(error, "code", "") == Code.DISK_FULL
            if (error.exit_status == SERVICE or is_full) and (how := run.how_to_go_on(sources)):
                # E_DISK_FULL says itself that what was scored is kept.
                error.add_note(f"{'' if is_full else 'what was scored is kept; '}{how}")
            raise
    ctx.exit(code)


@dataclass(kw_only=True)
class _Run:
    """A call of the command."""

    model: str
    options: BulkOptions
    progress: Show | None
    quiet: bool
    as_json: bool
    total: _Total = field(default_factory=lambda: _Total())
    target: Target | None = None
    """The output that is being written."""

    @property
    def is_to_stdout(self) -> bool:
        """Whether standard output is being written."""
        return self.target is not None and self.target.descriptor == 1

    def how_to_go_on(self, sources: tuple[str, ...]) -> str:
        """The command that resumes a run that has ended early; empty if there is nothing to resume."""
        is_begun = self.target is not None and self.target.is_unfinished()
        is_lost = is_begun and any(map(is_read_once, sources))
        if is_lost or not (is_begun or self.total.scored):
            return ""
        words = [word for word in sys.argv[1:] if word not in ("--resume", "--restart")]
        shown_words = list(map(shown_name, words))
        line = f"to go on: {shlex.join(['scoreline', *shown_words, '--resume'])}"
        return line if shown_words == words else f"{line} (with the URLs in full)"

    async def score(self, sources: tuple[str, ...], target: str) -> int:
        """Score a file, or several into a directory; the exit code."""
        async with AsyncClient() as client:
            if not is_many(sources, target):
                summary = await self._score_file(client, sources[0], target)
                return PARTLY if summary.rejected else 0
            total = self.total
            try:
                await self._score_files(client, sources, target)
            finally:  # also if the run was stopped: some files are scored
                if total.files > 1 and self.as_json:
                    print_json(total.as_json())
                elif total.files > 1:
                    self._say(total.sentence())
            return total.exit_code

    async def _score_files(
        self, client: AsyncClient, sources: tuple[str, ...], target: str
    ) -> None:
        """Score several files into a directory; if one is refused, the others are scored all the same."""
        total = self.total
        ref = ModelRef.parse(check_model(self.model))
        finished, version = FinishedFiles(target), ref.version
        for source, name in outputs_for(sources, target):
            output = Target(name, client.settings.state)
            facts = await asyncio.to_thread(facts_of, source)
            record = None
            if self.options.resume:
                record = await asyncio.to_thread(finished.find, output, facts, ref, self.options)
            if record is not None and version is None:
                version = (await describe(client.transport, self.model)).version
            if record is not None and record.version == version:
                share = f"{record.rejected:,} of {counted(record.rows, 'row')} rejected"
                self._say(
                    f"{shown_name(name)} is done: scored by {record.model}@{version}, {share}"
                )
                total.before += 1
                total.rows += record.rows
                total.rejected += record.rejected
                continue
            try:
                summary = await self._score_file(client, source, name)
            except FileRefused as error:
                say(f"Error: {error}", err=True)
                total.refused += 1
                continue
            await asyncio.to_thread(finished.add, output, facts, self.options, summary)
            total.scored += 1
            total.rows += summary.rows
            total.rejected += summary.rejected
            total.rejected_by_code.update(summary.rejected_by_code)

    async def _score_file(self, client: AsyncClient, source: str, target: str) -> ScoreSummary:
        self.target = Target(target, client.settings.state)
        summary = await client.score_file(
            self.model, source, target, options=self.options, progress=self.progress
        )
        if self.as_json:
            print_json(summary.as_json(), err=self.is_to_stdout)
        else:
            self._say(sentence(summary), to_stderr=self.is_to_stdout)
        return summary

    def _say(self, text: str, *, to_stderr: bool = False) -> None:
        if not self.quiet:
            say(text, err=to_stderr or self.as_json)


@dataclass
class _Total:
    """The counts of several files together."""

    scored: int = 0
    before: int = 0
    """Files that were scored by an earlier run."""
    refused: int = 0
    rows: int = 0
    rejected: int = 0
    rejected_by_code: Counter[str] = field(default_factory=Counter)
    """Rows that this run has rejected; earlier runs' codes are not known any more."""
    started: float = field(default_factory=time.monotonic)

    @property
    def files(self) -> int:
        return self.scored + self.before + self.refused

    @property
    def exit_code(self) -> int:
        """The worst of the files': 2 if one was refused, 1 if rows were rejected."""
        if self.refused:
            return REFUSED
        return PARTLY if self.rejected else 0

    def sentence(self) -> str:
        """For people."""
        counts = ((self.scored, "scored"), (self.before, "done before"), (self.refused, "refused"))
        files = ", ".join(f"{count:,} {outcome}" for count, outcome in counts if count)
        return (
            f"{counted(self.files, 'file')} ({files}): {counted(self.rows, 'row')}, {self.rows - self.rejected:,} scored, "
            f"{self.rejected:,} rejected, in {time.monotonic() - self.started:.2f} s"
        )

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "event": "total",
            "files": self.files,
            "files_scored": self.scored,
            "files_done_before": self.before,
            "files_refused": self.refused,
            "rows": self.rows,
            "scored": self.rows - self.rejected,
            "rejected": self.rejected,
            "rejected_by_code": dict(sorted(self.rejected_by_code.items())),
            "seconds": round(time.monotonic() - self.started, 3),
            "exit_code": self.exit_code,
        }


async def _until_signal(work: Any) -> int:
    """Do work until it is done; at SIGINT or SIGTERM, cancel it and let it end in order.

    Raises:
        Stopped: there was a signal.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    received: list[int] = []

    def stop(number: int) -> None:
        if received:  # a second signal does not wait; what is written can be resumed
            os._exit(BY_SIGNAL + number)
        received.append(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    try:
        return int(await task)
    except asyncio.CancelledError:
        if not received:
            raise
        raise Stopped(received[0]) from None
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def options_of(flags: dict[str, Any]) -> BulkOptions:
    """The options that were given on the command line; all others have their defaults."""
    absent = (("nulls", ()), ("rename", ()))
    flags = {
        name: value
        for name, value in flags.items()
        if value is not None and (name, value) not in absent
    }
    if flags.get("id") == "":
        raise click.UsageError("--id is ''; expected the name of a column")
    for name in ("unseen", "out_of_range"):
        if name in flags:
            flags[name] = Policy(flags[name])
    if flags.get("date_format") == "":
        raise click.UsageError("--date-format is ''; expected codes such as %d.%m.%Y, or excel")
    for name in ("nulls", "rename", "max_errors", "delimiter"):
        if name in flags:
            texts = [flags[name]] if isinstance(flags[name], str) else flags[name]
            try:
                flags[name] = given_as_text(name, texts)
            except SettingsError as error:
                message = (
                    f"--{name.replace('_', '-')} is {error.value!r}; expected {error.expected}"
                )
                raise click.UsageError(message) from None
    return BulkOptions(**flags)


class _RunColumn(ProgressColumn):
    """The run's own figures, not those that a bar would compute from its clock."""

    def render(self, task: Task) -> Text:
        progress: BulkProgress | None = task.fields["progress"]
        if progress is None:
            return Text("starting")
        percent = "" if progress.percent is None else f"{progress.percent:.1f} %  "
        if progress.waiting is not None:
            return Text(percent + progress.waiting, no_wrap=True, overflow="ellipsis")
        remaining = (
            "" if progress.seconds_left is None else f"{clock(progress.seconds_left)} left  "
        )
        return Text(
            f"{percent}{remaining}{progress.rows:,} rows  {progress.rows_per_s:,.0f} rows/s  "
            f"{progress.rejected:,} rejected  v{progress.version}",
            no_wrap=True,
            overflow="ellipsis",
        )


@contextmanager
def shown_progress(console: Console, *, as_json: bool, quiet: bool) -> Iterator[Show | None]:
    """A function to call with each progress: for a bar on a terminal or JSON lines; or None."""
    if as_json and not quiet:
        last = 0.0

        def show(progress: BulkProgress) -> None:
            nonlocal last
            if time.monotonic() - last >= JSON_EVERY_S or progress.percent == 100.0:
                last = time.monotonic()
                print_json(progress.as_json(), err=True)

        yield show
    elif quiet or not console.is_terminal:
        yield None
    else:
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=8), _RunColumn())
        with Progress(*columns, console=console) as bars:
            bar_of_file: dict[str, TaskID] = {}

            def move(progress: BulkProgress) -> None:
                if progress.source not in bar_of_file:
                    name = progress.source.rpartition("/")[2][-16:]
                    bar_of_file[progress.source] = bars.add_task(
                        plain(name), total=None, progress=None
                    )
                bar = bar_of_file[progress.source]
                bars.update(bar, completed=progress.done, total=progress.total, progress=progress)

            yield move


def sentence(summary: ScoreSummary) -> str:
    """A summary for people."""
    pace = f" ({summary.rows_per_s:,.0f} rows/s)" if summary.seconds >= 1 else ""
    text = (
        f"{counted(summary.rows, 'row')}, {summary.scored:,} scored, {summary.rejected:,} rejected, by "
        f"{summary.model}@{summary.version} in {summary.seconds:.2f} s{pace}: {summary.target}"
    )
    for code, count in summary.rejected_by_code.items():
        text += f"\n  {counted(count, 'row')} rejected: {_REASONS.get(code, 'see the message')} ({code})"
    for name, count in summary.warnings.items():
        code, _, column = name.partition(" ")
        verb = "is" if count == 1 else "are"
        text += f"\n  warning: {counted(count, 'value')} of {column} {verb} {_WARNINGS.get(code, 'unusual')} ({code})"
    for note in summary.notes:
        text += f"\n  {note}"
    if summary.errors is not None:
        text += f"\n  rejected rows are listed in {summary.errors}"
    return text


_REASONS: dict[str, str] = {
    Code.TYPE: "a value of another type, such as text where a number is expected",
    Code.NULL: "a missing value where training had none",
    Code.NON_FINITE: "a number that is NaN or infinite",
    Code.RANGE: "a number that the column's type cannot hold",
    Code.CATEGORY: "a value that training did not have",
    Code.OUT_OF_RANGE: "a number outside the range of training",
    Code.ENCODING: "bytes that are no text of this encoding",
    Code.CONTROL_CHAR: "a NUL byte",
    Code.FIELD_COUNT: "more or fewer fields than the header has",
    Code.DUPLICATE_KEY: "a key that is there twice in an object",
    Code.QUOTE: "a quote that is not closed, or in the wrong place",
    Code.JSON: "a line that is no JSON",
    Code.MISSING_COLUMN: "a column is missing",
    Code.PREDICT: "the pipeline raised an exception",
    Code.MODEL_OUTPUT: "the pipeline's answer is no prediction",
    Code.CRASHED: "the process that scored it died",
}
"""Why rows are rejected, in a few words; the error report has the details of each."""
_WARNINGS: dict[str, str] = {
    WarningCode.UNSEEN_CATEGORY: "not seen in training",
    WarningCode.OUT_OF_RANGE: "outside the range of training",
}


def clock(seconds: float) -> str:
    """A time span for people."""
    return str(timedelta(seconds=round(seconds)))
