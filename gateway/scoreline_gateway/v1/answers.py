"""Predictions as /v1 answers with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from starlette.responses import Response

from scoreline_client.predictions import Prediction, RecordError
from scoreline_client.protocol.json_records import rejected
from scoreline_gateway.errors import HttpProblem, problem_response


def predictions_response(predictions: Sequence[Prediction], *, is_single: bool) -> Response:
    """Predictions as JSON; several are a list, with an error for each record that is rejected.

    Raises:
        RecordRejected: `is_single`, and the record is rejected.
    """
    first = predictions[0]
    if is_single and first.error is not None:
        raise rejected(first.error)
    errors = [
        _error(prediction.error) for prediction in predictions if prediction.error is not None
    ]
    if len(errors) == len(predictions):
        message = f"none of the {len(errors)} records can be scored"
        return problem_response(
            HttpProblem(status=422, code=errors[0]["code"], message=message, errors=tuple(errors))
        )
    body: dict[str, Any] = {"model": first.model, "version": first.version}
    if is_single:
        body |= _prediction(first)
    else:
        body["predictions"] = [_prediction(prediction) for prediction in predictions]
    data = orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS)
    return Response(data, media_type="application/json")


def _prediction(prediction: Prediction) -> dict[str, Any]:
    if prediction.error is not None:
        return {"error": _error(prediction.error)}
    fields: dict[str, Any] = {"value": prediction.value}
    if prediction.probabilities:
        fields["probabilities"] = prediction.probabilities
    if prediction.warnings:
        names = ("code", "column", "value", "message")
        fields["warnings"] = [
            {name: getattr(warning, name) for name in names} for warning in prediction.warnings
        ]
    return fields


def _error(error: RecordError) -> dict[str, Any]:
    names = ("record", "code", "column", "value", "message")
    return {name: value for name in names if (value := getattr(error, name)) is not None}
