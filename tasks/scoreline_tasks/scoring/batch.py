"""Turns the entries of one read into batches by version, and batches into answers.

Every entry gets an answer here, whatever is wrong with it, and none costs another one its answer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_client.codes import Code
from scoreline_client.options import NO_OPTIONS, RequestOptions
from scoreline_client.protocol.messages import (
    Answer,
    Codec,
    ModelRef,
    Operation,
    Request,
    Status,
    WireError,
    decode_id,
    decode_reply_to,
)
from scoreline_tasks.models.registry import Models
from scoreline_tasks.queue.bisect import records_of
from scoreline_tasks.queue.streams import Entry, Finished
from scoreline_tasks.scoring.arrow_codec import score_arrow
from scoreline_tasks.scoring.csv_codec.codec import score_csv_chunk
from scoreline_tasks.scoring.json_codec import JsonResult, join_results, read_records, score_batch
from scoreline_tasks.scoring.predict import CodecResult, RequestProblem
from scoreline_tasks.scoring.profile import check_arrow, check_csv_chunk, check_json

logger = logging.getLogger(__name__)

NO_ID = "0" * 32
"""Stands for the id of an entry that has none; nobody can ask for its answer."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may ask for."""

    max_request_bytes: int
    max_request_records: int


@dataclass(slots=True)
class Tally:
    """What a process has done since it started."""

    requests: int = 0
    records: int = 0
    batches: int = 0


@dataclass(frozen=True, slots=True)
class _Open:
    """A decoded request that waits for its answer."""

    entry: Entry
    request: Request
    records: list[Any]
    options: RequestOptions


class Batcher:
    """Answers entries with the models of this process."""

    def __init__(self, models: Models, limits: Limits) -> None:
        self.tally = Tally()
        self._models = models
        self._limits = limits

    def answer(self, entries: Sequence[Entry], now_ms: int) -> list[Finished]:
        """Answer entries, those of one version in one call of its pipeline.

        `now_ms` is the time by the server's clock, against which requests expire.
        """
        finished: list[Finished] = []
        batches: dict[tuple[int, bytes], tuple[LoadedVersion, list[_Open]]] = {}
        versions: dict[str, LoadedVersion] = {}
        for entry in entries:
            try:
                request = self._accept(entry, now_ms)
                loaded = versions.get(request.model)
                if loaded is None:
                    loaded = self._models.resolve(ModelRef.parse(request.model))
                    versions[request.model] = loaded
                if request.operation is Operation.SCORE and request.codec is Codec.JSON:
                    records = read_records(request.body, self._limits.max_request_records)
                    one = _Open(entry, request, records, _options(request))
                    # Those who ask for the same share a call; most ask for nothing special.
                    key = (id(loaded), request.options)
                    batches.setdefault(key, (loaded, []))[1].append(one)
                else:
                    finished.append(self._answer_alone(entry, request, loaded, now_ms))
            except (WireError, RequestProblem) as problem:
                finished.append(refuse(entry, problem))
            # The boundary of one request: whatever else happens is its own answer, and logged.
            except Exception as error:
                logger.exception("request_failed entry=%s: its caller gets E_INTERNAL", entry.id)
                finished.append(refuse(entry, _internal(error)))
        for loaded, batch in batches.values():
            finished += self._answer_batch(loaded, batch, now_ms)
        self.tally.requests += len(finished)
        return finished

    def records_of(self, entry: Entry) -> list[bytes]:
        """The records of an entry that may be scored without the others; none if they belong together.

        They do where they cannot be told apart, and where a version's answers depend on company.
        """
        try:
            request = Request.decode(entry.fields)
            loaded = self._models.resolve(ModelRef.parse(request.model))
        except (WireError, RequestProblem):
            return []
        is_json = request.operation is Operation.SCORE and request.codec is Codec.JSON
        if not is_json or not (request.apart or loaded.batchable):
            return []
        return records_of(request.body)

    def _accept(self, entry: Entry, now_ms: int) -> Request:
        request = Request.decode(entry.fields)
        late_ms = now_ms - entry.queued_at_ms - request.expires_ms
        if late_ms >= 0:
            raise RequestProblem(
                Code.EXPIRED,
                f"the request waited {now_ms - entry.queued_at_ms} ms in the queue; it was to "
                f"expire after {request.expires_ms} ms and was not scored",
            )
        if len(request.body) > self._limits.max_request_bytes:
            raise RequestProblem(
                Code.TOO_LARGE,
                f"the body has {len(request.body)} bytes; this worker takes up to "
                f"{self._limits.max_request_bytes} (SCORELINE_MAX_REQUEST_BYTES)",
            )
        return request

    def _answer_alone(
        self, entry: Entry, request: Request, loaded: LoadedVersion, now_ms: int
    ) -> Finished:
        if request.operation is Operation.DESCRIBE:
            return _finish(entry, request, _describe(request, loaded))
        started = time.perf_counter()
        result = self._result(request, loaded)
        self.tally.records += result.records
        self.tally.batches += 1
        answer = Answer(
            id=request.id,
            model=loaded.model,
            version=loaded.version,
            codec=request.codec,
            records=result.records,
            rejected=result.rejected,
            problems=result.problems,
            warned=result.warned,
            report=result.report,
            classes=loaded.classes,
            timings=_timings(entry, now_ms, started, result.records),
            body=result.body,
        )
        return _finish(entry, request, answer)

    def _result(self, request: Request, loaded: LoadedVersion) -> CodecResult:
        is_check = request.operation is Operation.CHECK
        if request.codec is Codec.CSV:
            return (check_csv_chunk if is_check else score_csv_chunk)(request.body, loaded)
        options = _options(request)
        if request.codec is Codec.JSON:
            limit = self._limits.max_request_records
            return check_json(request.body, limit, loaded, options)
        return (check_arrow if is_check else score_arrow)(request.body, loaded, options)

    def _answer_batch(
        self, loaded: LoadedVersion, batch: list[_Open], now_ms: int
    ) -> list[Finished]:
        # Requests of a version whose answers depend on batch-mates never share a call.
        groups = [batch] if loaded.batchable else [[one] for one in batch]
        return [done for group in groups for done in self._answer_group(loaded, group, now_ms)]

    def _answer_group(
        self, loaded: LoadedVersion, group: list[_Open], now_ms: int
    ) -> list[Finished]:
        started = time.perf_counter()
        try:
            results = _score(loaded, group)
        # The boundary of one batch: its callers get an answer, and the others are not touched.
        except Exception as error:
            logger.exception("batch_failed model=%s@%s", loaded.model, loaded.version)
            return [refuse(one.entry, _internal(error)) for one in group]
        count = sum(len(one.records) for one in group)
        self.tally.records += count
        self.tally.batches += 1
        finished: list[Finished] = []
        for one, result in zip(group, results, strict=True):
            answer = Answer(
                id=one.request.id,
                model=loaded.model,
                version=loaded.version,
                records=len(one.records),
                classes=loaded.classes if result.probabilities else None,
                values=result.values,
                probabilities=result.probabilities,
                errors=result.errors,
                warnings=result.warnings,
                timings=_timings(one.entry, now_ms, started, count),
            )
            finished.append(_finish(one.entry, one.request, answer))
        return finished


def _score(loaded: LoadedVersion, group: list[_Open]) -> list[JsonResult]:
    requests, options = [one.records for one in group], group[0].options
    if loaded.batchable or not group[0].request.apart:
        return score_batch(loaded, requests, options)
    # The records of one request, from different callers, of a version that must not mix them.
    (records,) = requests
    return [join_results([score_batch(loaded, [[one]], options)[0] for one in records])]


def refuse(entry: Entry, problem: WireError | RequestProblem) -> Finished:
    """The answer to a request that cannot be scored as a whole."""
    try:
        request_id = decode_id(entry.fields)
        reply_to = decode_reply_to(entry.fields)
    except WireError:
        request_id, reply_to = NO_ID, ""
    error = {"code": str(problem.code), "message": problem.message}
    column = getattr(problem, "column", None)
    if column is not None:
        error["column"] = column
    answer = Answer(id=request_id, status=Status.ERROR, error=error)
    return Finished(entry, request_id, reply_to, answer.encode())


def _options(request: Request) -> RequestOptions:
    return RequestOptions.decode_options(request.options) if request.options else NO_OPTIONS


def _finish(entry: Entry, request: Request, answer: Answer) -> Finished:
    return Finished(entry, request.id, request.reply_to, answer.encode())


def _timings(entry: Entry, now_ms: int, started: float, count: int) -> dict[str, float]:
    return {
        "queued_ms": max(0, now_ms - entry.queued_at_ms),
        "scored_ms": round((time.perf_counter() - started) * 1000, 3),
        "batch_records": count,
    }


def _internal(error: Exception) -> RequestProblem:
    return RequestProblem(Code.INTERNAL, f"the worker failed: {type(error).__name__}: {error}")


def _describe(request: Request, loaded: LoadedVersion) -> Answer:
    columns = [
        {"name": column.name, "type": column.type.value, "nullable": column.nullable}
        for column in (loaded.schema.columns if loaded.schema else ())
    ]
    outputs = {"classes": loaded.classes, "probabilities": loaded.has_probabilities}
    return Answer(
        id=request.id,
        model=loaded.model,
        version=loaded.version,
        description={"columns": columns, "outputs": outputs},
    )
