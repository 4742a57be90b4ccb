"""Records to JSON bodies, and answers to predictions; a bad record costs no other its prediction."""

from __future__ import annotations

import gc
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from numbers import Real
from typing import Any

import orjson
from msgspec.structs import replace

from scoreline_client.codes import Code
from scoreline_client.errors import (
    EmptyRequest,
    ExpiredUnanswered,
    PayloadTooLarge,
    RecordRejected,
    RequestRefused,
    SettingsError,
    refusal,
)
from scoreline_client.predictions import Prediction, RecordError, RecordWarning
from scoreline_client.protocol.messages import Answer, ModelRef, Status, WireError
from scoreline_client.protocol.names import STAND_IN_TEXT, STAND_IN_TYPE
from scoreline_client.settings import ClientSettings

RECORDS_PER_REQUEST = 2500
"""Records of one request when many are sent: enough to share the costs of a call, few enough to
spread over processes."""
MANY_RECORDS = 200
"""From so many predictions on it is worth pausing the garbage collector."""
_MOST_DIGITS = 400
_TOO_LARGE = 10**_MOST_DIGITS
"""Longer whole numbers are cut: Python takes quadratic time to write them, and no column takes them."""
_NANOSECONDS_IN = {
    "W": 604_800 * 10**9, "D": 86_400 * 10**9, "h": 3600 * 10**9, "m": 60 * 10**9,
    "s": 10**9, "ms": 10**6, "us": 1000, "ns": 1,
}  # fmt: skip
LONGEST_EXPIRY_S = 1e9
"""Some thirty years; Redis keeps times in milliseconds, and refuses what does not fit."""


@dataclass(frozen=True, slots=True)
class EncodedRecords:
    """The records of one request as its body, and the errors of those that cannot be sent."""

    body: bytes
    count: int
    errors: dict[int, RecordError] = field(default_factory=dict)
    """Errors of records that cannot be sent, by index; `null` stands for those in the body."""


@contextmanager
def gc_paused() -> Iterator[None]:
    """Pause the cyclic garbage collector while a large result is built.

    Its full runs go over the whole heap: in a program with pandas loaded they take as long as the rest.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def check_model(model: str) -> str:
    """Check a reference to a model.

    Raises:
        UnknownModel: it is none.
    """
    try:
        _parsed(model)
    except (WireError, TypeError, AttributeError) as error:
        reason = str(error)
        if not isinstance(model, str):
            reason = (
                f"a model is named by text, such as 'churn' or 'churn@3', not by {_show(model)}"
            )
        raise refusal(Code.UNKNOWN_MODEL, reason) from error
    return model


_parsed = lru_cache(maxsize=1024)(ModelRef.parse)


def check_timeout(timeout_s: float, name: str = "timeout") -> float:
    """Check how long a caller waits; `name` is that of the argument.

    Raises:
        SettingsError: it is too long, negative, or no number.
    """
    # Asking an abstract class takes longer than all else that is checked of a call.
    is_number = type(timeout_s) in (float, int) or _is_number(timeout_s)
    if not is_number or not 0 <= timeout_s <= LONGEST_EXPIRY_S:
        expected = f"a number of seconds from 0 to {LONGEST_EXPIRY_S:g}"
        raise SettingsError(name, timeout_s, expected)
    return timeout_s


def check_expiry(expires_s: float) -> float:
    """Check how long a job may wait in the queue.

    Raises:
        SettingsError: it is too long, no time at all, negative, or no number.
    """
    if not _is_number(expires_s) or not 0 < expires_s <= LONGEST_EXPIRY_S:
        expected = f"a number of seconds above 0, up to {LONGEST_EXPIRY_S:g}"
        raise SettingsError("expires", expires_s, expected)
    return expires_s


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def check_records(records: object) -> Sequence[Any]:
    """Records as a sequence.

    Raises:
        EmptyRequest: there are none.
        RequestRefused: one record or text was given where several are expected.
    """
    if _is_of_pandas(records):
        message = "records are a list of mappings; a frame is predicted by predict_frame"
        raise RequestRefused(Code.TYPE, message)
    if isinstance(records, Mapping | str | bytes) or not isinstance(records, Iterable):
        raise RequestRefused(
            Code.TYPE,
            f"records must be a list of mappings, not {type(records).__name__}; "
            "put a single record into a list",
        )
    listed = records if isinstance(records, list | tuple) else list(records)
    if not listed:
        raise EmptyRequest(Code.EMPTY_REQUEST, "there are no records to score; give at least one")
    return listed


def encode_records(records: Sequence[Any]) -> EncodedRecords:
    """Encode records as one body."""
    try:
        body = _json(records)
    except TypeError:
        return _encode_one_by_one(records)
    is_record = all(issubclass(record_type, Mapping) for record_type in set(map(type, records)))
    if not is_record or (b"null" in body and any(map(_may_be_infinite, records))):
        return _encode_one_by_one(records)
    return EncodedRecords(body, len(records))


def encode_record(record: Any) -> bytes:
    """Encode one record, whatever its values are: only the worker knows which of them the model needs.

    Raises:
        RecordRejected: it is no mapping.
    """
    if type(record) is dict or isinstance(record, Mapping):
        try:
            body = _json(record)
        except TypeError:
            return _encode_by_value(record)
        if b"null" not in body or not _may_be_infinite(record):
            return body
    return _encode_by_value(record)


def encode_value(value: Any) -> bytes:
    """Encode one value, whatever it is, in JSON of its own."""
    try:
        encoded = orjson.dumps(value, default=_plain, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        # A lone surrogate, a whole number beyond 64 bits, a clock's zone that orjson does not know; or
        # nesting without end.
        if isinstance(value, str):
            return json.dumps(value).encode()
        if isinstance(value, datetime):
            return orjson.dumps(value.isoformat())
        if isinstance(value, int):
            is_long = abs(value) >= _TOO_LARGE
            return b"-" * (value < 0) + str(_TOO_LARGE if is_long else abs(value)).encode()
        return orjson.dumps(_stand_in(value))
    if encoded == b"null" and value is not None:
        # JSON has no infinity: its name is sent, which the worker refuses as what it is.
        with suppress(TypeError):
            if math.isinf(value):
                return b'"Infinity"' if value > 0 else b'"-Infinity"'
    return encoded


def _json(value: Any) -> bytes:
    """JSON; raises TypeError if a value has none."""
    try:
        # Checking keys for other types than text takes half as long as all of the rest.
        return orjson.dumps(value, default=_plain)
    except TypeError:
        return orjson.dumps(value, default=_plain, option=orjson.OPT_NON_STR_KEYS)


def _may_be_infinite(record: Mapping[Any, Any]) -> bool:
    """Whether a value may be infinite. In JSON, NaN and infinity become null; NaN means missing, infinity must not."""
    values = record.values()
    try:
        return math.inf in values or -math.inf in values
    # Any value may raise any error in a comparison, as pandas' NA and arrays do.
    except Exception:  # noqa: BLE001
        return True


def _plain(value: Any) -> Any:
    """The form in which a value is sent that orjson cannot encode; numpy and pandas need not be installed."""
    type_name, module = type(value).__name__, type(value).__module__.partition(".")[0]
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, float):
        return float(value)
    if type_name in ("NaTType", "NAType") and module == "pandas":
        return None
    if isinstance(value, datetime):  # a subclass, as pandas' Timestamp; orjson knows no subclasses
        return value.isoformat()
    if isinstance(value, timedelta):
        return _duration(
            ((value.days * 86_400 + value.seconds) * 10**6 + value.microseconds) * 1000
            + getattr(value, "nanoseconds", 0)
        )
    if isinstance(value, Decimal):
        if not value.is_finite():
            return float(value)
        # A whole number as such, so that none of its digits is lost; any other by its own digits.
        is_whole = value.adjusted() < _MOST_DIGITS and value == value.to_integral_value()
        return orjson.Fragment(str(int(value)) if is_whole else str(value))
    if module == "numpy" and hasattr(value, "dtype"):
        return _plain_of_numpy(value)
    return _stand_in(value)


def _plain_of_numpy(value: Any) -> Any:
    """A scalar or an array of numpy's as Python's own."""
    numpy = sys.modules["numpy"]
    unit, step = numpy.datetime_data(value.dtype) if value.dtype.kind in "mM" else ("", 1)
    if value.ndim:
        return value.tolist()
    if unit and numpy.isnat(value):
        return None
    if value.dtype.kind == "M":
        # Coarser units have texts that are no ISO 8601 date and time.
        return str(
            value.astype("datetime64[s]") if unit in ("Y", "M", "W", "D", "h", "m") else value
        )
    if value.dtype.kind == "m" and unit in _NANOSECONDS_IN:
        return _duration(int(value.astype(numpy.int64)) * step * _NANOSECONDS_IN[unit])
    plain = value.item()
    if value.dtype.kind == "f":
        return float(plain)  # numpy leaves a float of more bits than Python's as it is
    return plain if type(plain) is not type(value) else _stand_in(value)


def _duration(nanoseconds: int) -> str:
    """A span of time in ISO 8601, as pandas writes it."""
    seconds, fraction = divmod(nanoseconds, 10**9)
    days, seconds = divmod(seconds, 86_400)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"P{days}DT{hours}H{minutes}M{seconds}.{fraction:09}S"


def _stand_in(value: object) -> dict[str, str]:
    """An object that stands for a value without a form in JSON: a column that needs the value refuses it."""
    return {STAND_IN_TYPE: type(value).__name__, STAND_IN_TEXT: _show(value)}


def check_size(encoded: EncodedRecords, settings: ClientSettings, advice: str) -> None:
    """Refuse a request that a worker would refuse for its size.

    Raises:
        PayloadTooLarge: too many bytes or records for one request.
    """
    if (
        len(encoded.body) > settings.max_request_bytes
        or encoded.count > settings.max_request_records
    ):
        raise PayloadTooLarge(
            Code.TOO_LARGE,
            f"{encoded.count} records in {len(encoded.body)} bytes are too much for one request; the "
            f"limits are {settings.max_request_records} and {settings.max_request_bytes}. {advice}",
        )


def split_records(records: Sequence[Any], settings: ClientSettings) -> Iterator[EncodedRecords]:
    """Many records as several requests, each encoded when it is taken.

    Raises:
        PayloadTooLarge: a single record is over the limit of a request.
    """
    requests = -(-len(records) // min(RECORDS_PER_REQUEST, settings.max_request_records))
    size = -(-len(records) // requests)
    chunks = [records[start : start + size] for start in reversed(range(0, len(records), size))]
    while chunks:
        chunk = chunks.pop()
        encoded = encode_records(chunk)
        if len(encoded.body) > settings.max_request_bytes and len(chunk) > 1:
            middle = len(chunk) // 2
            chunks += [chunk[middle:], chunk[:middle]]
            continue
        check_size(encoded, settings, "One record must fit into a request.")
        yield encoded


def raise_refusal(answer: Answer, *, is_awaited: bool = True) -> None:
    """Raise the error of an answer that refuses its request; return if it does not.

    `is_awaited` says that the request's caller waits for it: to them, an expired one is a NoAnswer.
    """
    if answer.status is Status.ERROR:
        error = answer.error or {}
        if is_awaited and error.get("code") == Code.EXPIRED:
            message = error.get("message", "the request expired in the queue")
            raise ExpiredUnanswered(answer.id, message)
        raise refusal(
            error.get("code", Code.INTERNAL),
            error.get("message", "the worker gave no reason"),
            error.get("column"),
        )


def predictions_of(
    answer: Answer, unsent: Mapping[int, RecordError] | None = None, first: int = 0
) -> list[Prediction]:
    """The predictions of a request, in the order of its records.

    `unsent` are the errors of records that could not be sent, by index in the request; `first` is the
    index of its first record among those that the caller gave.

    Raises:
        RequestRefused: the request as a whole cannot be scored.
    """
    raise_refusal(answer)
    model, version = answer.model, answer.version
    classes, rows = answer.classes, answer.probabilities
    by_class: Iterable[dict[Any, Any]]
    with gc_paused() if len(answer.values) > MANY_RECORDS else nullcontext():
        if answer.outputs and rows:
            outputs = [(output["name"], output["classes"] or ()) for output in answer.outputs]
            iterators = [iter(row or ()) for row in rows]
            by_class = [
                {name: {label: next(remaining) for label in labels} for name, labels in outputs}
                if row
                else {}
                for row, remaining in zip(rows, iterators, strict=True)
            ]
        elif not classes or not rows:
            by_class = [{} for _ in answer.values]
        elif len(classes) == 2 and None not in rows:  # most classifiers, in a quarter of the time
            first_class, second_class = classes
            by_class = [{first_class: p, second_class: q} for p, q in rows]  # type: ignore[misc]
        else:
            by_class = [dict(zip(classes, row, strict=True)) if row else {} for row in rows]
        predictions = [
            Prediction(value, probabilities, model, version)
            for value, probabilities in zip(answer.values, by_class, strict=True)
        ]
    for index, warnings in answer.warnings.items():
        record_warnings = tuple(RecordWarning(**warning) for warning in warnings)
        predictions[int(index)] = replace(predictions[int(index)], warnings=record_warnings)
    errors = {
        int(index): RecordError(
            error["code"], error["message"], None, error.get("column"), error.get("value")
        )
        for index, error in answer.errors.items()
    }
    for row, record_error in (errors | dict(unsent or {})).items():
        numbered = replace(record_error, record=first + row)
        predictions[row] = Prediction(None, {}, model, version, numbered)
    return predictions


def rejected(error: RecordError) -> RecordRejected:
    """The exception for the error of a record that is its caller's only one."""
    return RecordRejected(error.code, error.message, error.column, error.value)


def _encode_one_by_one(records: Sequence[Any]) -> EncodedRecords:
    bodies: list[bytes] = []
    errors: dict[int, RecordError] = {}
    for index, record in enumerate(records):
        try:
            bodies.append(_encode_by_value(record))
        except RecordRejected as error:
            bodies.append(b"null")
            errors[index] = RecordError(error.code, error.message, index, error.column, error.value)
    return EncodedRecords(b"[" + b",".join(bodies) + b"]", len(records), errors)


def _is_of_pandas(value: object) -> bool:
    """Whether it is a frame or one of its rows; pandas need not be installed."""
    value_type = type(value)
    return value_type.__module__.partition(".")[0] == "pandas" and hasattr(value_type, "iloc")


def is_frame(value: object) -> bool:
    """Whether it is a data frame of pandas; pandas need not be installed."""
    return _is_of_pandas(value) and getattr(value, "ndim", 0) == 2


def _encode_by_value(record: Any) -> bytes:
    if _is_of_pandas(record) and record.ndim == 1:
        record = record.to_dict()
    if not isinstance(record, Mapping):
        raise RecordRejected(
            Code.TYPE,
            f"a record must be a mapping of column names to values, not {_show(record)}",
            None,
            _show(record),
        )
    members = (
        encode_value(str(name)) + b":" + encode_value(value) for name, value in record.items()
    )
    return b"{" + b",".join(members) + b"}"


def _show(value: object) -> str:
    try:
        text = ascii(value[:100] if isinstance(value, str | bytes | bytearray) else value)
    # Whatever an object's own repr raises: it is shown by its type.
    except Exception:  # noqa: BLE001
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 80 else text[:77] + "..."
