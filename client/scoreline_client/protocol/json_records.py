"""Records to bodies, answers to predictions. Pure; what goes wrong with one record stays with it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import orjson

from scoreline_client.codes import Code
from scoreline_client.errors import (
    EmptyRequest,
    PayloadTooLarge,
    RecordRejected,
    RequestRefused,
    refusal,
)
from scoreline_client.predictions import Prediction, RecordError, RecordWarning, predictions_for
from scoreline_client.protocol.garbage import no_search_for_garbage
from scoreline_client.protocol.messages import Answer, ModelRef, Status, WireError
from scoreline_client.settings import ClientSettings

PIECE_RECORDS = 2500
"""Records of one request when many are sent: enough to share the costs of a call, few enough to
spread over processes."""
MANY_RECORDS = 200
"""From so many answers on it is worth keeping Python's collector of garbage out."""

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


@dataclass(frozen=True, slots=True)
class Piece:
    """Records of one request, encoded, and what is wrong with some of them."""

    body: bytes
    count: int
    errors: dict[int, RecordError] = field(default_factory=dict)
    """Records that cannot be sent, by place; `null` stands for them in the body."""


_NO_PIECE = Piece(b"", 0)


def check_model(model: str) -> str:
    """Refuse at once what cannot be a model's reference.

    Raises:
        UnknownModel: it is none.
    """
    try:
        _parsed(model)
    except (WireError, TypeError, AttributeError) as error:
        raise refusal(Code.UNKNOWN_MODEL, str(error)) from error
    return model


_parsed = lru_cache(maxsize=1024)(ModelRef.parse)


LONGEST_EXPIRY_S = 1e9
"""Some thirty years; Redis keeps times in milliseconds, and refuses what does not fit."""


def check_timeout(timeout_s: float) -> float:
    """Refuse at once what is no time to wait.

    Raises:
        ValueError: it is infinite, negative, or no number.
    """
    if not 0 <= timeout_s < math.inf:
        raise ValueError(f"timeout must be a number of seconds from 0, not {timeout_s}")
    return timeout_s


def check_expiry(expires_s: float) -> float:
    """Refuse at once what is no time for a job to wait in the queue.

    Raises:
        ValueError: it is too long, negative, or no number.
    """
    if not 0 <= expires_s <= LONGEST_EXPIRY_S:
        raise ValueError(
            f"expires must be a number of seconds from 0 to {LONGEST_EXPIRY_S:g}, not {expires_s}"
        )
    return expires_s


def check_records(records: object) -> Sequence[Any]:
    """Records as a sequence.

    Raises:
        EmptyRequest: there are none.
        RequestRefused: one record or text was given where several are expected.
    """
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


def encode_records(records: Sequence[Any]) -> Piece:
    """Encode records as one body."""
    try:
        body = _json(records)
    except TypeError:
        return _encode_one_by_one(records)
    # NaN and infinity become null in JSON. NaN means missing, infinity must not.
    if b"null" in body or not all(issubclass(kind, Mapping) for kind in set(map(type, records))):
        return _encode_one_by_one(records)
    return Piece(body, len(records))


def encode_record(record: Any) -> bytes:
    """Encode one record.

    Raises:
        RecordRejected: it cannot be sent.
    """
    if isinstance(record, Mapping):
        try:
            body = _json(record)
        except TypeError:
            return _encode_carefully(record)
        # NaN and infinity become null in JSON. NaN means missing, infinity must not.
        if b"null" not in body:
            return body
    return _encode_carefully(record)


def _json(value: Any) -> bytes:
    """JSON; raises TypeError if a value has none."""
    try:
        # Looking at keys for what is no text takes as long as half of the rest.
        return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError:
        return orjson.dumps(value, option=_OPTIONS)


def check_size(piece: Piece, settings: ClientSettings, advice: str) -> None:
    """Refuse what a worker would refuse.

    Raises:
        PayloadTooLarge: too many bytes or records for one request.
    """
    if len(piece.body) > settings.max_request_bytes or piece.count > settings.max_request_records:
        raise PayloadTooLarge(
            Code.TOO_LARGE,
            f"{piece.count} records in {len(piece.body)} bytes are too much for one request; the "
            f"limits are {settings.max_request_records} and {settings.max_request_bytes}. {advice}",
        )


def pieces_of(records: Sequence[Any], settings: ClientSettings) -> Iterator[Piece]:
    """Split many records into requests, each encoded when it is asked for.

    Raises:
        PayloadTooLarge: a single record is over the limit of a request.
    """
    count = -(-len(records) // min(PIECE_RECORDS, settings.max_request_records))
    size = -(-len(records) // count)
    for start in range(0, len(records), size):
        yield from _fitting(records[start : start + size], settings)


def _fitting(records: Sequence[Any], settings: ClientSettings) -> list[Piece]:
    piece = encode_records(records)
    if len(piece.body) <= settings.max_request_bytes or len(records) == 1:
        check_size(piece, settings, "One record must fit into a request.")
        return [piece]
    middle = len(records) // 2
    return _fitting(records[:middle], settings) + _fitting(records[middle:], settings)


def raise_refusal(answer: Answer) -> None:
    """Raise what a request-level error of an answer stands for; return if there is none."""
    if answer.status is Status.ERROR:
        error = answer.error or {}
        raise refusal(
            error.get("code", Code.INTERNAL),
            error.get("message", "the worker gave no reason"),
            error.get("column"),
        )


def _warnings(answer: Answer, place: int) -> tuple[RecordWarning, ...]:
    return tuple(RecordWarning(**one) for one in answer.warnings.get(str(place), ()))


def predictions_of(answer: Answer, piece: Piece = _NO_PIECE, first: int = 0) -> list[Prediction]:
    """The predictions of a request, in order; `first` is the place of its first record.

    Raises:
        RequestRefused: the request as a whole cannot be scored.
    """
    raise_refusal(answer)
    model, version = answer.model, answer.version
    with no_search_for_garbage() if len(answer.values) > MANY_RECORDS else nullcontext():
        predictions = predictions_for(answer.values, _by_class(answer), model, version)
    for warned in map(int, answer.warnings):
        told = _warnings(answer, warned)
        predictions[warned] = replace(predictions[warned], warnings=told)
    errors = {int(place): _record_error(place, one) for place, one in answer.errors.items()}
    for place, error in (errors | piece.errors).items():
        moved = RecordError(error.code, error.message, first + place, error.column, error.value)
        predictions[place] = Prediction(None, {}, model, version, moved)
    return predictions


def rejected(error: RecordError) -> RecordRejected:
    """The exception for the error of a record that was asked about alone."""
    return RecordRejected(error.code, error.message, error.column, error.value)


def _by_class(answer: Answer) -> list[dict[Any, float]]:
    """The probabilities of each record, by class."""
    classes, shares = answer.classes, answer.probabilities
    if not classes or not shares:
        return [{} for _ in answer.values]
    if len(classes) == 2 and None not in shares:  # most classifiers, in a quarter of the time
        one, other = classes
        return [{one: first, other: second} for first, second in shares]  # type: ignore[misc]
    return [dict(zip(classes, share, strict=True)) if share else {} for share in shares]


def _record_error(place: str, error: Mapping[str, Any]) -> RecordError:
    return RecordError(
        error["code"], error["message"], int(place), error.get("column"), error.get("value")
    )


def _encode_one_by_one(records: Sequence[Any]) -> Piece:
    bodies: list[bytes] = []
    errors: dict[int, RecordError] = {}
    for place, record in enumerate(records):
        try:
            bodies.append(_encode_carefully(record))
        except RecordRejected as error:
            bodies.append(b"null")
            errors[place] = RecordError(error.code, error.message, place, error.column, error.value)
    return Piece(b"[" + b",".join(bodies) + b"]", len(records), errors)


def _encode_carefully(record: Any) -> bytes:
    if not isinstance(record, Mapping):
        raise RecordRejected(
            Code.TYPE,
            f"a record must be a mapping of column names to values, not {_show(record)}",
            None,
            _show(record),
        )
    plain: dict[str, Any] = {}
    for column, value in record.items():
        name = str(column)
        try:
            encoded = orjson.dumps(value, option=_OPTIONS)
        except TypeError as error:
            too_large = "64-bit" in str(error)
            code = Code.RANGE if too_large else Code.TYPE
            raise RecordRejected(
                code, f"column {name!r}: {_show(value)} cannot be sent: {error}", name, _show(value)
            ) from error
        # Infinity has no JSON: by its name it is refused as what it is, and not taken for missing.
        plain[name] = _infinity(value) if encoded == b"null" else value
    return orjson.dumps(plain, option=_OPTIONS)


def _infinity(value: Any) -> str | None:
    if value is None or math.isnan(value):
        return None
    return "Infinity" if value > 0 else "-Infinity"


def _show(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."
