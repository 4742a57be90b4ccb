"""JSON records in, columns of answers out; requests of one version share one call of its pipeline."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import orjson

from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_artifacts.validation import Checked, Problem, frame_of_records
from scoreline_client.codes import Code
from scoreline_client.options import NO_OPTIONS, RequestOptions
from scoreline_tasks.scoring.json_careful import needs_care, read_carefully
from scoreline_tasks.scoring.outputs import each_warning, rules_of
from scoreline_tasks.scoring.predict import RequestProblem, Scored, score_frame
from scoreline_tasks.scoring.text_values import coerced


@dataclass(frozen=True, slots=True)
class JsonResult:
    """One request's share of a batch. Lists run parallel to its records."""

    values: list[Any]
    probabilities: list[list[float] | None] | None
    errors: dict[str, dict[str, Any]] = field(default_factory=dict)
    warnings: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


def read_records(body: bytes, limit: int) -> list[Any]:
    """Decode a body into records, which are not looked at yet.

    Raises:
        RequestProblem: E_JSON, E_ENCODING, E_WIRE, E_EMPTY_REQUEST or E_TOO_LARGE.
    """
    records = _decode(body)
    if not isinstance(records, list):
        raise RequestProblem(
            Code.WIRE, f"the body is a JSON {type(records).__name__}; expected an array of objects"
        )
    if not records:
        raise RequestProblem(Code.EMPTY_REQUEST, "the request holds no records; send at least one")
    if len(records) > limit:
        raise RequestProblem(
            Code.TOO_LARGE,
            f"the request holds {len(records)} records; this worker takes up to {limit} "
            "(SCORELINE_MAX_REQUEST_RECORDS)",
        )
    return records


def _decode(body: bytes) -> Any:
    try:
        records = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if "depth limit" in str(error):
            raise RequestProblem(Code.JSON, f"the body is not valid JSON: {error}") from error
        return read_carefully(body)
    if isinstance(records, list) and needs_care(body, records):
        return read_carefully(body)
    return records


def check_records(
    records: list[Any], loaded: LoadedVersion, options: RequestOptions = NO_OPTIONS
) -> Checked:
    """Hold records to a version's schema."""
    return frame_of_records(
        records,
        loaded.schema,
        rules=rules_of(options),
        reading=coerced if options.coerce else None,
    )


def score_batch(
    loaded: LoadedVersion,
    requests: Sequence[list[Any]],
    options: RequestOptions = NO_OPTIONS,
) -> list[JsonResult]:
    """Score the records of several requests in one call; one result for each request, in order."""
    checked = check_records(list(chain.from_iterable(requests)), loaded, options)
    scored = score_frame(loaded, checked.frame)
    if checked.good is None and not scored.errors and not checked.findings:
        return list(_split(requests, scored))
    return _split_with_errors(requests, checked, scored, _warnings(checked, loaded))


def join_results(results: Sequence[JsonResult]) -> JsonResult:
    """The result of a request whose records were scored one by one, from theirs."""
    shares = [(one.probabilities or [None])[0] for one in results]
    return JsonResult(
        [one.values[0] for one in results],
        shares if any(shares) else None,
        {str(place): one.errors["0"] for place, one in enumerate(results) if one.errors},
        {str(place): one.warnings["0"] for place, one in enumerate(results) if one.warnings},
    )


def _warnings(checked: Checked, loaded: LoadedVersion) -> dict[int, list[dict[str, Any]]]:
    """Warnings by the record's place."""
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for one in each_warning(checked, loaded):
        found[one.place].append(
            {"code": one.code, "message": one.message, "column": one.column, "value": one.value}
        )
    return found


def _split(requests: Sequence[list[Any]], scored: Scored) -> list[JsonResult]:
    values = scored.values.tolist()
    probabilities = None if scored.probabilities is None else scored.probabilities.tolist()
    results: list[JsonResult] = []
    start = 0
    for records in requests:
        end = start + len(records)
        part = None if probabilities is None else probabilities[start:end]
        results.append(JsonResult(values[start:end], part))
        start = end
    return results


def _split_with_errors(
    requests: Sequence[list[Any]],
    checked: Checked,
    scored: Scored,
    warnings: dict[int, list[dict[str, Any]]],
) -> list[JsonResult]:
    """The careful way: spread what was scored over the places of the good records."""
    count = sum(map(len, requests))
    good = range(count) if checked.good is None else checked.good.tolist()
    problems = {problem.record: problem for problem in checked.problems}
    problems |= {good[row]: problem for row, problem in scored.errors.items()}
    values: list[Any] = [None] * count
    probabilities: list[Any] = [None] * count
    shares = None if scored.probabilities is None else scored.probabilities.tolist()
    for row, (place, value) in enumerate(zip(good, scored.values.tolist(), strict=True)):
        if place not in problems:
            values[place] = value
            probabilities[place] = shares and shares[row]
    results: list[JsonResult] = []
    start = 0
    for records in requests:
        end = start + len(records)
        errors = {
            str(place - start): _error(problems[place])
            for place in range(start, end)
            if place in problems
        }
        part = None if shares is None else probabilities[start:end]
        warned = {
            str(place - start): warnings[place]
            for place in range(start, end)
            if place in warnings and place not in problems
        }
        results.append(JsonResult(values[start:end], part, errors, warned))
        start = end
    return results


def _error(problem: Problem) -> dict[str, Any]:
    error = {"code": problem.code, "message": problem.message}
    if problem.column is not None:
        error["column"] = problem.column
    if problem.value is not None:
        error["value"] = problem.value
    return error
