"""Scores JSON records; requests to one version share a call of its pipeline.

orjson reads nearly every body. It is strict and fast, but it refuses a whole body for one number that is
too large or one lone surrogate, rounds whole numbers beyond 64 bits, and keeps the last of two equal
keys. Python's `json` reads all of that: it costs the one record, and nothing but a count when all is well.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import chain
from typing import Any

import orjson

from scoreline_artifacts.loading.version import LoadedVersion, Scores
from scoreline_artifacts.validation import (
    CheckedRecords,
    Problem,
    UnreadableRecord,
    frame_of_records,
    kind_of,
)
from scoreline_client.codes import Code
from scoreline_client.errors import RequestRefused
from scoreline_client.options import NO_OPTIONS, RequestOptions
from scoreline_tasks.scoring.limits import DEFAULT_LIMITS, Limits, outside_texts
from scoreline_tasks.scoring.predict import (
    CodecResult,
    all_problems,
    each_warning,
    error_details,
    rules_of,
)
from scoreline_tasks.scoring.text_values import coerced

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_SMALL = 1 << 14
"""Bytes from which on a regular expression takes longer, and more memory, than to look at all bytes at once."""
_CONSTANT = re.compile(rb'"(?:[^"\\]++|\\.)*+"|(-?Infinity|NaN)', re.DOTALL)
_LONGEST_INTEGER = 400
_DIGITS = bytes(ord("0") if code in b"123456789" else code for code in range(256))
_LONG_RUN = b"0" * 20
"""Digits that may be a whole number beyond 64 bits."""


class JsonBody:
    """The records of requests that share a call."""

    def __init__(
        self,
        requests: Sequence[list[Any]],
        loaded: LoadedVersion,
        options: RequestOptions = NO_OPTIONS,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._requests = requests
        self._loaded = loaded
        self.checked = check_records(list(chain.from_iterable(requests)), loaded, options, limits)

    def extract(self, record: int) -> bytes:
        """The body of a request that has nothing but this record of the first one."""
        return json.dumps([self._requests[0][record]], separators=(",", ":")).encode()

    def results(self, scores: Scores, errors: dict[int, Problem]) -> list[CodecResult]:
        """One result for each request, in order; its lists run parallel to its records."""
        checked = self.checked
        values: list[Any] = scores.values.tolist()
        probabilities: list[Any] | None = None
        if scores.probabilities is not None:
            probabilities = scores.probabilities.tolist()
        problems = all_problems(checked, errors)
        if checked.good is not None:
            # The frame has the good records only: spread their answers over all of them.
            good, count = checked.good.tolist(), sum(map(len, self._requests))
            values = _spread(values, good, count)
            probabilities = probabilities and _spread(probabilities, good, count)
        warnings: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for warning in each_warning(checked, self._loaded):
            warnings[warning.index].append(
                {
                    "code": warning.code,
                    "message": warning.message,
                    "column": warning.column,
                    "value": warning.value,
                }
            )
        for index in problems:
            values[index] = None
            if probabilities is not None:
                probabilities[index] = None
            warnings.pop(index, None)
        outputs = None
        if self._loaded.classes is None and self._loaded.has_probabilities:
            each = self._loaded.outputs.each or ()
            outputs = [{"name": output.name, "classes": output.classes} for output in each]
        results: list[CodecResult] = []
        start = 0
        for records in self._requests:
            end = start + len(records)
            part = None if probabilities is None else probabilities[start:end]
            result = CodecResult(
                records=len(records),
                classes=self._loaded.classes if part else None,
                outputs=outputs if part else None,
                values=values[start:end],
                probabilities=part,
            )
            if problems or warnings:
                indices = range(start, end)
                result.errors = {
                    str(index - start): error_details(problems[index])
                    for index in indices
                    if index in problems
                }
                result.warnings = {
                    str(index - start): warnings[index] for index in indices if index in warnings
                }
            results.append(result)
            start = end
        return results


def check_records(
    records: list[Any], loaded: LoadedVersion, options: RequestOptions, limits: Limits
) -> CheckedRecords:
    """Hold records to a version's schema."""
    return frame_of_records(
        records,
        loaded.schema,
        rules=rules_of(options, limits),
        reading=coerced if options.coerce else None,
    )


def read_array(body: bytes) -> Any:
    """Decode JSON whose elements are not checked yet, whole numbers of any length among them.

    Raises:
        RequestRefused: E_JSON or E_ENCODING.
    """
    try:
        elements = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if "depth limit" in str(error):
            raise RequestRefused(Code.JSON, f"the body is not valid JSON: {error}") from error
        return _read_strictly(body)
    if not (isinstance(elements, list) and _may_be_wrong(body, elements)):
        return elements
    del elements  # not twice in memory
    return _read_strictly(body)


def read_records(body: bytes, limits: Limits = DEFAULT_LIMITS) -> list[Any]:
    """Decode a body into records, which are not checked yet.

    Raises:
        RequestRefused: E_JSON, E_ENCODING, E_WIRE, E_EMPTY_REQUEST or E_TOO_LARGE.
    """
    if not body:
        raise RequestRefused(Code.JSON, "the body is empty; expected an array of objects")
    if len(body) > limits.together_bytes:
        limits.check_json(body)
    records = read_array(body)
    if not isinstance(records, list):
        raise RequestRefused(
            Code.WIRE, f"the body is {kind_of(records)}; expected an array of objects"
        )
    if not records:
        raise RequestRefused(Code.EMPTY_REQUEST, "the request holds no records; send at least one")
    if len(records) > limits.max_request_records:
        limits.check_records(len(records))
    return records


def _spread(answers: list[Any], good: list[int], count: int) -> list[Any]:
    spread: list[Any] = [None] * count
    for index, answer in zip(good, answers, strict=True):
        spread[index] = answer
    return spread


# What orjson cannot read, rounds, or passes over in silence


def _may_be_wrong(body: bytes, records: list[Any]) -> bool:
    """Whether `records`, as orjson read them, may differ from what the body says."""
    if _LONG_RUN in body.translate(_DIGITS):
        return True
    # Each key has a colon. Without colons in texts there are no more of them than keys that are left.
    if len(records) == 1:  # most requests: a microsecond here is a percent of what they cost
        if type(records[0]) is dict and body.count(b":") == len(records[0]):
            return False
    elif set(map(type, records)) == {dict} and body.count(b":") == sum(map(len, records)):
        return False
    keys, pending = 0, [records]
    while pending:
        value: Any = pending.pop()
        if isinstance(value, dict):
            keys += len(value)
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
    is_small = len(body) < _SMALL
    return (_STRING.sub(b"", body) if is_small else outside_texts(body)).count(b":") != keys


def _read_strictly(body: bytes) -> Any:
    """Decode a body with Python's `json`; a record with a key twice is an UnreadableRecord.

    Raises:
        RequestRefused: E_JSON or E_ENCODING, with the position of the byte.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        message = f"the body is not UTF-8: byte {body[error.start]:#04x} at {error.start}"
        raise RequestRefused(Code.ENCODING, message) from error
    try:
        return json.loads(
            text, parse_int=_integer, parse_constant=_refuse, object_pairs_hook=_object
        )
    except _Constant as error:
        constant = next(match for match in _CONSTANT.finditer(body) if match[1] is not None)
        message = (
            f"the body is not JSON: {constant[1].decode()} at byte {constant.start()} "
            "is no JSON value"
        )
        raise RequestRefused(Code.JSON, message) from error
    except json.JSONDecodeError as error:
        position = len(text[: error.pos].encode())
        message = f"the body is not valid JSON at byte {position}: {error.msg}"
        raise RequestRefused(Code.JSON, message) from error
    except RecursionError as error:
        raise RequestRefused(Code.JSON, "the body is nested too deep") from error


class _Constant(ValueError):
    """Raised when a body holds NaN or an infinity."""


def _refuse(name: str) -> Any:
    raise _Constant(name)


def _integer(text: str) -> int:
    # Python takes quadratic time to read digits; these are enough to be too many.
    return int(text[:_LONGEST_INTEGER])


def _object(pairs: list[tuple[str, Any]]) -> Any:
    record = dict(pairs)
    bad = next((value for value in record.values() if isinstance(value, UnreadableRecord)), None)
    if bad is not None:
        return bad
    if len(record) == len(pairs):
        return record
    ((twice, _),) = Counter(key for key, _ in pairs).most_common(1)
    return UnreadableRecord(
        Code.DUPLICATE_KEY.value, f"the record has the key {twice[:80]!a} twice"
    )
