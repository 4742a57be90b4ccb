"""Turns the entries of one read into batches by version, and batches into answers.

Every entry gets an answer here, whatever is wrong with it, and none costs another entry its answer.
`Batcher.answer` has every outcome of a request, in order.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from scoreline_artifacts.loading.version import LoadedVersion, Scores
from scoreline_artifacts.validation import Problem
from scoreline_client.codes import Code
from scoreline_client.errors import RequestRefused
from scoreline_client.options import NO_OPTIONS, RequestOptions
from scoreline_client.protocol.keys import Lane
from scoreline_client.protocol.messages import (
    DEFAULT_EXPIRES_MS,
    INLINE_ANSWER_BYTES,
    Answer,
    Codec,
    ModelRef,
    Operation,
    Request,
    Status,
    WireError,
    decode_client,
    decode_id,
)
from scoreline_client.protocol.totals import NOBODY, Counted, Faults, Totals
from scoreline_client.tracing import Tracing
from scoreline_tasks.scoring.answer_size import bound_errors
from scoreline_tasks.scoring.arrow_codec import ArrowBody
from scoreline_tasks.scoring.bad_rows import TooManyBadRows
from scoreline_tasks.scoring.csv_codec.codec import CsvBody
from scoreline_tasks.scoring.json_codec import JsonBody, read_records
from scoreline_tasks.scoring.limits import DENSEST, VALUE_BYTES, Limits
from scoreline_tasks.scoring.predict import Body, CodecResult, score_frame
from scoreline_tasks.scoring.profile import check_arrow, check_csv_chunk, check_json

logger = logging.getLogger(__name__)

_ADVICE = (
    "correct them or leave them out; with unseen=error (--unseen error) values that training has not seen "
    "are rejected before they reach the pipeline"
)
_LONGEST_MESSAGE = 2000
"""Characters of a refusal: whatever it shows of the request, the answer stays small."""
SHORT_MS = 20.0
"""Milliseconds of a batch that is scored in any case, however little time its requests have left."""
NEW_CALL = 0.3
"""The weight of a new call among those before, in what a call takes."""
COSTS_KEPT = 256
"""Versions of which the costs are remembered; with one more, all are forgotten."""
NO_ID = "0" * 32
"""Stands for the id of an entry that has none; nobody can ask for its answer."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a lane, as read: not decoded, not trusted."""

    lane: Lane
    id: bytes
    fields: dict[bytes, bytes]

    @property
    def job(self) -> bytes:
        """The bulk job whose chunk this is; empty for other requests, also for those whose job is no id."""
        try:
            return decode_client(self.fields, b"job").encode() if self.lane is Lane.BULK else b""
        except WireError:
            return b""

    @property
    def size(self) -> int:
        """Bytes of its body."""
        return len(self.fields.get(b"body", b""))

    @property
    def request_id(self) -> str:
        """The id of its request; the entry's own where it has none that can be read."""
        try:
            return decode_id(self.fields)
        except WireError:
            return self.id.decode()

    def number(self, name: bytes, default: int) -> int:
        """A field that holds a whole number from 1 up; the default where it is missing or no such number."""
        text = self.fields.get(name, b"")
        return max(1, int(text)) if text.isdigit() and len(text) < 16 else default

    @property
    def queued_at_ms(self) -> int:
        """When it was queued, in Unix milliseconds by the server's clock."""
        return int(self.id.partition(b"-")[0])

    @property
    def notify(self) -> str:
        """The client that is told once the answer is stored, or ""."""
        try:
            return decode_client(self.fields, b"notify")
        except WireError:
            return ""

    @property
    def expires_at_ms(self) -> int:
        """When it expires, by the same clock: from then on it is not scored."""
        text = self.fields.get(b"expires_ms", b"")
        return self.queued_at_ms + (int(text) if text.isdigit() else DEFAULT_EXPIRES_MS)


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer to one entry."""

    entry: Entry
    request_id: str
    reply_to: str
    answer: bytes

    @property
    def is_large(self) -> bool:
        """Whether the answer is stored under a key of its own, and its caller gets a note of it."""
        return len(self.answer) > INLINE_ANSWER_BYTES


class VersionIsLoading(Exception):
    """Raised when a request has to wait for its version, which is being loaded beside the others' requests."""


class Registry(Protocol):
    """The versions of a process."""

    def resolve(self, ref: ModelRef, asked_at: float = -math.inf) -> LoadedVersion:
        """The version that a reference names now, for a request that came at `asked_at`, by `time.monotonic`.

        Raises:
            RequestRefused: E_UNKNOWN_MODEL or E_NOT_LOADED.
            VersionIsLoading: ask again in a moment.
        """


class WatchedCall(Protocol):
    """What watches the calls of a pipeline inside a block."""

    def begin_next(self) -> None:
        """One call has ended, another one begins."""

    def note(self) -> None:
        """All rows were answered."""


Timed = Callable[[str, int], AbstractContextManager[WatchedCall]]
"""Watches the calls of a pipeline inside a block, given a version (`pima@3`) and its rows."""


class Unwatched:
    """Watches nothing."""

    def begin_next(self) -> None:
        """Nothing."""

    def note(self) -> None:
        """Nothing."""


def untimed(version: str, rows: int) -> AbstractContextManager[WatchedCall]:  # noqa: ARG001 - as Timed
    """Watch nothing."""
    return nullcontext(Unwatched())


@dataclass(slots=True)
class AcceptedRequest:
    """A request that is in time and well-formed, with the version that answers it."""

    entry: Entry
    request: Request
    loaded: LoadedVersion
    options: RequestOptions
    records: list[Any]
    """Codec json: the records of the body."""


class Score(Protocol):
    """Scores the rows of a body's frame: their scores, and errors by row."""

    def __call__(
        self,
        loaded: LoadedVersion,
        body: Body,
        *,
        each_row_alone: bool,
        pause: Callable[[], None],
    ) -> tuple[Scores, dict[int, Problem]]:
        """See `score_frame`."""


def score_body(
    loaded: LoadedVersion, body: Body, *, each_row_alone: bool, pause: Callable[[], None]
) -> tuple[Scores, dict[int, Problem]]:
    """Score all rows of a body's frame here and now."""
    return score_frame(loaded, body.checked.rows, each_row_alone=each_row_alone, pause=pause)


@dataclass(slots=True)
class CallCost:
    """A call of `rows` rows takes `call_s` seconds, and each further row `row_s`; learned from calls of all sizes."""

    rows: int
    """The smallest call of late."""
    call_s: float
    row_s: float

    def expected_s(self, rows: int) -> float:
        """Seconds that a call of so many rows takes."""
        return self.call_s + self.row_s * max(0, rows - self.rows)

    def note(self, rows: int, took_s: float) -> None:
        """A call has ended."""
        if rows != self.rows:
            row_s = (took_s - self.call_s) / (rows - self.rows)
            self.row_s += NEW_CALL * (max(0.0, row_s) - self.row_s)
        if rows == self.rows:
            self.call_s += NEW_CALL * (took_s - self.call_s)
        elif rows < self.rows or took_s < self.call_s:
            self.rows, self.call_s = rows, took_s
        # The first call may have been slow for reasons of its own, and all later ones may be of one row.
        self.row_s = min(self.row_s, self.call_s / self.rows)


class CallCosts:
    """What a call of each version's pipeline takes, as this process has seen it."""

    def __init__(self) -> None:
        self._costs: dict[str, CallCost] = {}

    def of(self, version: str) -> CallCost | None:
        """The costs of a version, such as `pima@3`; None before its first call."""
        return self._costs.get(version)

    def note(self, version: str, rows: int, took_s: float) -> None:
        """A call has ended. Of a first one, all is taken to be due to its rows."""
        cost = self._costs.get(version)
        if cost is not None:
            cost.note(rows, took_s)
            return
        if len(self._costs) >= COSTS_KEPT:
            self._costs.clear()
        self._costs[version] = CallCost(rows, took_s, took_s / rows)


class Batcher:
    """Answers entries with the models of this process."""

    def __init__(
        self,
        registry: Registry,
        limits: Limits,
        timed: Timed = untimed,
        tracing: Tracing | None = None,
    ) -> None:
        self.totals = Totals()
        self._timed = timed
        self._registry = registry
        self._limits = limits
        self._tracing = tracing
        self._costs = CallCosts()
        self.rows_s = 0.0
        """Seconds that the rows of the last online batch take, beside what a call takes by itself."""

    def load(self, entries: Sequence[Entry], now_ms: int) -> None:
        """Load the versions that entries name which have not expired; `answer` reports those that cannot be loaded."""
        in_time = [entry for entry in entries if entry.expires_at_ms > now_ms]
        for model in {entry.fields.get(b"model", b"") for entry in in_time}:
            with suppress(Exception):
                self._registry.resolve(ModelRef.parse(model.decode()))

    def answer(
        self,
        entries: Sequence[Entry],
        now_ms: int,
        postpone: Callable[[Entry], None] | None = None,
        pause: Callable[[], None] = lambda: None,
        score: Score = score_body,
    ) -> list[Finished]:
        """Answer entries, those of one version in one call of its pipeline.

        `now_ms` is the time by the server's clock, against which requests expire. `postpone` takes those that
        wait for their version; without it they are refused. `pause` is called now and then where a batch takes
        many calls of its pipeline. Large requests do not share a call: what is decoded at a time is bounded. `score`
        stands in for `score_body`.
        """
        finished: list[Finished] = []
        resolved: dict[str, LoadedVersion] = {}
        batches: dict[Hashable, list[AcceptedRequest]] = {}
        limit = self._limits.max_request_bytes
        foreseen = 0  # bytes of memory that the decoded records take at the most
        for entry in entries:
            try:
                request = Request.decode(entry.fields)
                waited_ms = now_ms - entry.queued_at_ms
                if waited_ms >= request.expires_ms:
                    message = (
                        f"waited {waited_ms} ms in the queue, longer than {request.expires_ms} ms"
                    )
                    finished.append(self._refuse(entry, RequestRefused(Code.EXPIRED, message)))
                    continue
                if len(request.body) > limit:
                    message = f"the body has {len(request.body)} bytes; SCORELINE_MAX_REQUEST_BYTES is {limit}"
                    finished.append(self._refuse(entry, RequestRefused(Code.TOO_LARGE, message)))
                    continue
                if request.model not in resolved:
                    asked_at = time.monotonic() - waited_ms / 1000
                    ref = ModelRef.parse(request.model)
                    resolved[request.model] = self._registry.resolve(ref, asked_at)
                loaded = resolved[request.model]
                if request.operation is Operation.DESCRIBE:
                    finished.append(_finished(entry, request, _description(request, loaded)))
                    self.totals.add_request("ok", _counted(entry, loaded))
                    continue
                accepted = self._accept(entry, request, loaded)
            except VersionIsLoading:
                if postpone is not None:
                    postpone(entry)
                    continue
                message = f"{request.model} is still being loaded; ask again in a moment"
                finished.append(self._refuse(entry, RequestRefused(Code.NOT_LOADED, message)))
            # One of the above, or its fields, options or body do not follow the wire format.
            except (WireError, RequestRefused) as problem:
                finished.append(self._refuse(entry, problem))
            # The boundary of one request: whatever else happens is its own answer, and logged.
            except Exception as error:
                logger.exception("request_failed entry=%s: its caller gets E_INTERNAL", entry.id)
                finished.append(self._refuse(entry, _internal(error)))
            else:
                columns = loaded.schema.columns if loaded.schema else ()
                values = len(accepted.records) * len(columns)
                size = DENSEST * len(request.body) + VALUE_BYTES * values
                foreseen += size
                if foreseen > self._limits.unpacked_bytes:
                    for batch in batches.values():
                        finished += self._answer_batch(batch, now_ms, pause, score)
                    batches, foreseen = {}, size
                # Requests that ask for the same share a call, unless answers depend on the other rows.
                shares = loaded.batchable and _is_json_score(request)
                alike = (id(loaded), request.options) if shares else entry.id
                key: Hashable = (entry.lane, alike)
                batches.setdefault(key, []).append(accepted)
        started, self.rows_s = time.monotonic(), 0.0
        for batch in batches.values():
            if in_time := self._in_time(batch, now_ms - started * 1000, finished):
                with nullcontext() if self._tracing is None else _traced(self._tracing, in_time):
                    finished += self._answer_batch(in_time, now_ms, pause, score)
        self.totals.requests += len(finished)
        return finished

    def _in_time(
        self, batch: list[AcceptedRequest], clock_offset_ms: float, finished: list[Finished]
    ) -> list[AcceptedRequest]:
        """The requests of a batch that are answered while their callers wait; the others are refused.

        `clock_offset_ms` is the server's clock less this machine's monotonic one.

        Where more comes than can be scored, a request reaches the head of the queue when hardly any of its time is
        left: scored in turn, each would be answered too late. A request that has waited for less time than it has left
        is always scored, so that the cost of a call is measured again and again.
        """
        cost = self._costs.of(_version(batch[0].loaded))
        if cost is None or not batch[0].records:
            return batch
        rows = sum(len(accepted.records) for accepted in batch)
        self.rows_s += cost.row_s * rows
        needed_ms = cost.expected_s(rows) * 1000
        if needed_ms < SHORT_MS:
            return batch
        in_time, now_ms = [], time.monotonic() * 1000 + clock_offset_ms
        for accepted in batch:
            waited_ms = now_ms - accepted.entry.queued_at_ms
            left_ms = accepted.request.expires_ms - waited_ms
            is_waited_for = bool(accepted.request.reply_to)
            if needed_ms <= left_ms or waited_ms < left_ms or not is_waited_for:
                in_time.append(accepted)
                continue
            message = (
                f"waited {waited_ms:.0f} ms in the queue, and its batch takes about {needed_ms:.0f} ms more: longer "
                f"than {accepted.request.expires_ms} ms"
            )
            refusal = RequestRefused(Code.EXPIRED, message)
            finished.append(self._refuse(accepted.entry, refusal, accepted.loaded))
        return in_time

    def _answer_batch(
        self,
        batch: list[AcceptedRequest],
        now_ms: int,
        pause: Callable[[], None],
        score: Score,
    ) -> list[Finished]:
        """Answer requests to one version in one call of its pipeline."""
        first, started, paused_s = batch[0], time.perf_counter(), 0.0
        try:
            if first.request.operation is Operation.CHECK:
                results: Sequence[CodecResult] = [_check(first, self._limits)]
            else:
                # A bad record costs only itself: `checked` has its problem, and a frame without it.
                body = _open_body(batch, self._limits)
                # If the pipeline raises, only the rows that make it raise get an error.
                rows, version = len(body.checked.rows), _version(first.loaded)
                with self._timed(version, rows) as call:

                    def between_calls() -> None:
                        nonlocal paused_s
                        pauses = time.perf_counter()
                        pause()
                        paused_s += time.perf_counter() - pauses
                        call.begin_next()

                    scored = score(
                        first.loaded,
                        body,
                        each_row_alone=first.request.apart and not first.loaded.batchable,
                        pause=between_calls,
                    )
                    if not scored[1]:
                        call.note()
                results = body.results(*scored)
                if first.records and rows:
                    self._costs.note(version, rows, time.perf_counter() - started - paused_s)
            return self._answers(batch, results, now_ms, started, paused_s)
        except TooManyBadRows as problem:
            if len(batch) > 1:
                # No caller's request is refused for another's rows.
                return [
                    finished
                    for accepted in batch
                    for finished in self._answer_batch([accepted], now_ms, pause, score)
                ]
            return [
                self._refuse(
                    first.entry, RequestRefused(Code.PREDICT, f"{problem}; {_ADVICE}"), first.loaded
                )
            ]
        except (WireError, RequestRefused) as problem:
            return [self._refuse(accepted.entry, problem, accepted.loaded) for accepted in batch]
        # The boundary of one batch: its callers get an answer, and the others are not touched.
        except Exception as error:
            logger.exception("batch_failed model=%s: E_INTERNAL", first.request.model)
            return [
                self._refuse(accepted.entry, _internal(error), accepted.loaded)
                for accepted in batch
            ]

    def _accept(self, entry: Entry, request: Request, loaded: LoadedVersion) -> AcceptedRequest:
        records: list[Any] = []
        options = _options_of(request)
        if request.codec is Codec.JSON:
            records = read_records(request.body, self._limits)
            if loaded.schema is not None and len(records) > 1:
                self._limits.check_values(len(records), len(loaded.schema.columns))
        if request.by_output and loaded.outputs.is_several and options.outputs is None:
            outputs = loaded.outputs
            names = [*outputs.prediction_columns, *outputs.probability_columns, "error"]
            options = replace(options, outputs=names)
        return AcceptedRequest(entry, request, loaded, options, records)

    def _answers(
        self,
        batch: Sequence[AcceptedRequest],
        results: Sequence[CodecResult],
        now_ms: int,
        started: float,
        paused_s: float,
    ) -> list[Finished]:
        count = sum(result.records for result in results)
        scored_s = time.perf_counter() - started
        scored_ms = round(scored_s * 1000, 3)
        faults: Faults = Counter()
        for result in results:
            if result.faults:
                faults.update(result.faults)
            elif result.errors:
                faults.update(
                    (error["code"], error.get("column")) for error in result.errors.values()
                )
        finished, waited_ms = [], []
        for accepted, result in zip(batch, results, strict=True):
            request = accepted.request
            try:
                if result.errors or result.problems or result.warnings:
                    bound_errors(result, len(request.body), grouped=request.grouped_errors)
            except RequestRefused as problem:
                finished.append(self._refuse(accepted.entry, problem, accepted.loaded))
                continue
            queued_ms = max(0, now_ms - accepted.entry.queued_at_ms)
            waited_ms.append(queued_ms)
            answer = Answer(
                id=accepted.request.id,
                model=accepted.loaded.model,
                version=accepted.loaded.version,
                codec=accepted.request.codec,
                records=result.records,
                classes=result.classes,
                outputs=result.outputs,
                values=result.values,
                probabilities=result.probabilities,
                errors=result.errors,
                more_errors=result.more_errors,
                rejected=result.rejected,
                problems=result.problems,
                warnings=result.warnings,
                warned=result.warned,
                report=result.report,
                timings={"queued_ms": queued_ms, "scored_ms": scored_ms, "batch_records": count},
                body=result.body,
            )
            finished.append(_finished(accepted.entry, accepted.request, answer))
        self.totals.add_batch(
            _counted(batch[0].entry, batch[0].loaded),
            waited_ms=waited_ms,
            scored_us=int(scored_s * 1e6),
            busy_us=int((scored_s - paused_s) * 1e6),
            records=count,
            rejected=_by_schema_column(faults, batch[0].loaded) if faults else faults,
        )
        log_batch(batch, count, faults.total(), scored_ms)
        return finished

    def _refuse(
        self,
        entry: Entry,
        problem: WireError | RequestRefused,
        loaded: LoadedVersion | None = None,
    ) -> Finished:
        counted = (NOBODY, NOBODY, entry.lane) if loaded is None else _counted(entry, loaded)
        self.totals.add_request(str(problem.code), counted)
        return refuse(entry, problem)


def _by_schema_column(faults: Faults, loaded: LoadedVersion) -> Faults:
    """Faults by the columns that a version has: callers may make up others."""
    names = set(loaded.schema.names) if loaded.schema else set()
    counts: Faults = Counter()
    for (code, column), number in faults.items():
        counts[code, column if column in names else None] += number
    return counts


def log_batch(
    batch: Sequence[AcceptedRequest], records: int, rejected: int, scored_ms: float
) -> None:
    """Log a batch with the ids of its requests, for those who look for one."""
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug(
            "batch_scored model=%s version=%d lane=%s records=%d rejected=%d scored_ms=%.3f requests=%s",
            batch[0].loaded.model,
            batch[0].loaded.version,
            batch[0].entry.lane,
            records,
            rejected,
            scored_ms,
            [accepted.request.id for accepted in batch],
        )


def _version(loaded: LoadedVersion) -> str:
    return f"{loaded.model}@{loaded.version}"


def _counted(entry: Entry, loaded: LoadedVersion) -> Counted:
    return loaded.model, str(loaded.version), entry.lane


def _traced(tracing: Tracing, batch: Sequence[AcceptedRequest]) -> AbstractContextManager[None]:
    """A span of a batch."""
    entry, loaded = batch[0].entry, batch[0].loaded
    return tracing.processing(
        entry.lane,
        [accepted.entry.fields.get(b"trace", b"") for accepted in batch],
        model=loaded.model,
        version=loaded.version,
        **{"messaging.batch.message_count": len(batch)},
    )


class Seldom:
    """Decides when a line that others can cause is logged again, and counts those that are left out meanwhile."""

    def __init__(self, every_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_s = every_s
        self._clock = clock
        self._next_at = -math.inf
        self._left_out = 0

    def due(self) -> int | None:
        """How many were left out, if this one is to be logged; None if it is not."""
        if self._clock() < self._next_at:
            self._left_out += 1
            return None
        left_out, self._left_out = self._left_out, 0
        self._next_at = self._clock() + self._every_s
        return left_out


_unanswerable = Seldom(10.0)


def refuse(entry: Entry, problem: WireError | RequestRefused) -> Finished:
    """Make the answer to a request that cannot be scored as a whole."""
    request_id, reply_to = NO_ID, ""
    try:
        request_id = decode_id(entry.fields)
        reply_to = decode_client(entry.fields, b"reply_to")
    except WireError as error:
        # No caller can be answered; and whoever writes such requests decides how many there are.
        if (left_out := _unanswerable.due()) is not None:
            logger.warning(
                "request_unanswerable lane=%s entry=%s left_out=%s: %s; its caller is not told",
                entry.lane.value,
                entry.id.decode(errors="replace"),
                left_out,
                error,
            )
    details = {"code": str(problem.code), "message": problem.message[:_LONGEST_MESSAGE]}
    column = getattr(problem, "column", None)
    if column is not None:
        details["column"] = column
    answer = Answer(id=request_id, status=Status.ERROR, error=details)
    return Finished(entry, request_id, reply_to, answer.encode())


def _internal(error: Exception) -> RequestRefused:
    return RequestRefused(Code.INTERNAL, f"the worker failed: {type(error).__name__}: {error}")


def _finished(entry: Entry, request: Request, answer: Answer) -> Finished:
    return Finished(entry, request.id, request.reply_to, answer.encode())


def _options_of(request: Request) -> RequestOptions:
    """The options in a request's field of that name.

    Raises:
        WireError: one is not known, not permitted, or would be passed over in this request.
    """
    if not request.options:
        return NO_OPTIONS
    is_description = request.operation is Operation.DESCRIBE
    if is_description or request.codec is Codec.CSV:
        if RequestOptions.read_object(request.options):
            where = "the operation describe has none"
            if not is_description:
                where = "a csv body has its options in its head"
            raise WireError(f"options: {where}")
        return NO_OPTIONS
    options = RequestOptions.decode_options(request.options)
    if _is_json_score(request):
        for name in ("outputs", "problems"):
            if getattr(options, name) != getattr(NO_OPTIONS, name):
                raise WireError(f"options: {name!r} is for the codecs csv and arrow, not json")
    return options


def _is_json_score(request: Request) -> bool:
    return request.operation is Operation.SCORE and request.codec is Codec.JSON


def _open_body(batch: Sequence[AcceptedRequest], limits: Limits) -> Body:
    first = batch[0]
    if first.request.codec is Codec.JSON:
        records = [accepted.records for accepted in batch]
        return JsonBody(records, first.loaded, first.options, limits)
    if first.request.codec is Codec.CSV:
        return CsvBody(first.request.body, first.loaded, limits)
    return ArrowBody(first.request.body, first.loaded, first.options, limits)


def _check(accepted: AcceptedRequest, limits: Limits) -> CodecResult:
    if accepted.request.codec is Codec.JSON:
        return check_json(accepted.records, accepted.loaded, accepted.options, limits)
    if accepted.request.codec is Codec.CSV:
        return check_csv_chunk(accepted.request.body, accepted.loaded, limits)
    return check_arrow(accepted.request.body, accepted.loaded, accepted.options, limits)


def _description(request: Request, loaded: LoadedVersion) -> Answer:
    _options_of(request)
    columns = [
        {"name": column.name, "type": column.type.value, "nullable": column.nullable}
        | ({"optional": True} if column.may_be_left_out else {})
        | ({"unused": True} if column.unused else {})
        | {"dtype": column.dtype}
        | {
            name: value
            for name in ("minimum", "maximum", "categories")
            if (value := getattr(column, name)) is not None
        }
        for column in (loaded.schema.columns if loaded.schema else ())
    ]
    outputs: dict[str, Any] = {
        "classes": loaded.classes,
        "probabilities": loaded.has_probabilities,
    }
    if loaded.outputs.each is not None:
        outputs["each"] = [asdict(output) for output in loaded.outputs.each]
    return Answer(
        id=request.id,
        model=loaded.model,
        version=loaded.version,
        description={"columns": columns, "outputs": outputs},
    )
