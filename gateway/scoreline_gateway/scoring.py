"""Asks for predictions in the name of a caller: as long as the caller is there, and not for longer than is allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import orjson
from starlette.requests import Request

from scoreline_client.async_client import AsyncClient
from scoreline_client.errors import RecordRejected
from scoreline_client.options import NO_OPTIONS, RequestOptions, expected_of, type_hints
from scoreline_client.predictions import Prediction, RecordError
from scoreline_client.protocol.json_records import check_model, encode_record
from scoreline_client.protocol.keys import Lane
from scoreline_client.tracing import Tracing
from scoreline_gateway.body import WhileConnected
from scoreline_gateway.errors import HttpCode, HttpRefused

OPTIONS = ("coerce", "unseen", "out_of_range")
"""The options of requests that callers may name, beside their records."""


async def score(
    request: Request,
    model: str,
    records: Sequence[Mapping[str, Any]],
    *,
    timeout_s: float | None = None,
    options: RequestOptions = NO_OPTIONS,
) -> list[Prediction]:
    """Predict records; one that is rejected has an `error`. A single one shares a request with other callers'.

    Raises:
        CallerGone: the caller has closed the connection; the records are scored no more.
        UnknownModel, EmptyRequest, NoAnswer, QueueFull, ServerUnreachable: as for the client's `predict_many`.
    """
    if len(records) == 1:
        encoded = options.encoded_options
        try:
            record = encode_record(records[0])
            return [await score_one(request, model, record, timeout_s=timeout_s, options=encoded)]
        except RecordRejected as error:
            rejection = RecordError(error.code, str(error), 0, error.column, error.value)
            return [Prediction(None, error=rejection)]
    with WhileConnected(request):
        predictions: list[Prediction] = await request.app.client.predict_many(
            model, records, timeout=_limited(request, timeout_s), options=options
        )
        return predictions


async def score_one(
    request: Request,
    model: str,
    record: bytes,
    *,
    timeout_s: float | None = None,
    options: bytes = b"",
) -> Prediction:
    """Predict one record, encoded as its options are, which shares a request with other callers'.

    Raises:
        RecordRejected: it cannot be scored.
        CallerGone, UnknownModel, NoAnswer, QueueFull, ServerUnreachable: as for `score`.
    """
    client: AsyncClient = request.app.client
    tracing: Tracing | None = request.app.tracing
    timeout_s = _limited(request, timeout_s)
    check_model(model)
    with WhileConnected(request):
        if tracing is None:
            return await client.coalescer.ask(model, record, options, timeout_s)
        with tracing.sending(Lane.ONLINE, model) as trace:
            return await client.coalescer.ask(model, record, options, timeout_s, trace)


def _limited(request: Request, timeout_s: float | None) -> float:
    """The time that a caller waits: what it asks for, but no more than the settings permit."""
    most_s: float = request.app.settings.gateway_timeout_s
    return most_s if timeout_s is None else min(timeout_s, most_s)


def options_of(parameters: Mapping[str, Any]) -> RequestOptions:
    """The options of a request that stand among its parameters; others are passed over.

    Raises:
        HttpRefused: one of them has a value that is not permitted.
    """
    values = {name: parameters[name] for name in OPTIONS if name in parameters}
    if not values:
        return NO_OPTIONS
    for name, value in values.items():
        kind = type_hints(RequestOptions)[name]
        try:
            values[name] = msgspec.convert(value, kind)
        except msgspec.ValidationError:
            message = f"option {name} is {orjson.dumps(value).decode()[:80]}; expected {expected_of(kind)}"
            raise HttpRefused(400, HttpCode.BAD_REQUEST, message) from None
    return RequestOptions(**values)


def raise_rejection(predictions: Sequence[Prediction]) -> None:
    """Raise the error of the first record that was rejected, if one was.

    Raises:
        RecordRejected: its message begins with the record's number, where there are several.
    """
    for index, prediction in enumerate(predictions):
        if (error := prediction.error) is not None:
            prefix = f"record {index}: " if len(predictions) > 1 else ""
            raise RecordRejected(error.code, prefix + error.message, error.column, error.value)
