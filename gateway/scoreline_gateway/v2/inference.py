"""`POST /v2/models/M/infer`: tensors in, predictions out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from scoreline_client.predictions import Prediction
from scoreline_client.protocol.names import probability_column
from scoreline_gateway.access import Right, header, route
from scoreline_gateway.body import (
    content_type,
    hold_json,
    hold_unpacked,
    kind_in_json,
    parse_json,
    read_body,
    refuse_media_type,
)
from scoreline_gateway.scoring import options_of, raise_rejection, score, score_one
from scoreline_gateway.v2.tensors import (
    Tensor,
    bad,
    packed,
    read_inputs,
    read_one_record,
    records_of,
    tensor_of,
)

JSON_BYTES = b"inference-header-content-length"
"""The header that says how many bytes of a body are JSON; the others are binary data."""
AS_COLUMNS = {"content_type": "pd"}
"""Tells clients that decode answers by their content type that each output is a column of a frame."""
_ONE = [1]
_MEDIA_TYPES = ("", "application/json", "application/octet-stream")


def reference(request: Request) -> str:
    """The model and version that a path names."""
    model: str = request.path_params["model"]
    version = request.path_params.get("version")
    return model if version is None else f"{model}@{version}"


async def infer(request: Request) -> Response:
    """Predict the records that the inputs hold.

    A record that is rejected is an error of the whole request, unless `outputs` names `error`.
    """
    kind, _ = content_type(request)
    if kind not in _MEDIA_TYPES:
        raise refuse_media_type(kind, "application/json or application/octet-stream")
    body = await read_body(request, request.app.settings.max_request_bytes)
    text, binary = split_body(request, body)
    hold_json(request, text)
    model = reference(request)
    plain = read_one_record(text) if not binary else None
    if plain is not None:
        prediction = await score_one(request, model, orjson.dumps(plain.record))
        return response_of_one(prediction, model, plain.id)
    document = parse_json(text)
    if not isinstance(document, dict):
        raise bad(f"the body must be a JSON object, not {kind_in_json(document)}")
    if not isinstance(document.get("id", ""), str):
        raise bad("`id` must be a text")
    parameters = _object(document, "parameters")
    tensors = read_inputs(document.get("inputs"), binary)
    wanted = wanted_outputs(document.get("outputs"))
    columns = None
    if len(tensors) == 1 and (
        not tensors[0].is_column or tensors[0].parameters.get("content_type") == "np"
    ):
        columns = (await request.app.fleet.describe(model)).known
    hold_unpacked(request, max((tensor.shape[0] for tensor in tensors), default=0), 0)
    records = records_of(tensors, columns)
    timeout_us = parameters.get("timeout")
    predictions = await score(
        request,
        model,
        records,
        timeout_s=timeout_us / 1e6 if type(timeout_us) is int and timeout_us > 0 else None,
        options=options_of(parameters),
    )
    if "error" not in wanted:
        raise_rejection(predictions)
    is_binary = parameters.get("binary_data_output") is True
    head = head_of(predictions, model, document.get("id"))
    return response_of(head, outputs_of(predictions, wanted), wanted, is_binary=is_binary)


def head_of(
    predictions: Sequence[Prediction], model: str, request_id: str | None
) -> dict[str, Any]:
    """The fields of an answer before its outputs."""
    head: dict[str, Any] = {"model_name": predictions[0].model or model.partition("@")[0]}
    if version := max(prediction.version for prediction in predictions):
        head["model_version"] = str(version)
    if request_id is not None:
        head["id"] = request_id
    return head


def split_body(request: Request, body: bytes) -> tuple[bytes, memoryview]:
    """The JSON of a request, and the binary data behind it.

    Raises:
        HttpRefused: the header that has the length of the JSON is no number, or larger than the body.
    """
    length = header(request.scope, JSON_BYTES)
    if length is None:
        return body, memoryview(b"")
    end = len(body)
    if not (length.isdigit() and len(length) < 19 and int(length) <= end):
        raise bad(f"the header Inference-Header-Content-Length must be a number up to {end}")
    return body[: int(length)], memoryview(body)[int(length) :]


def _object(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A field that is an object, or not there."""
    value = fields.get(name) or {}
    if not isinstance(value, dict):
        raise bad(f"`{name}` must be an object")
    return value


def wanted_outputs(outputs: Any) -> dict[str, bool | None]:
    """Names of the outputs that a request asks for, and whether as binary data; empty if it names none."""
    if outputs is None:
        return {}
    if not isinstance(outputs, list) or not all(
        isinstance(output, dict) and isinstance(output.get("name"), str) for output in outputs
    ):
        raise bad("`outputs` must be a list of objects with a `name`")
    return {output["name"]: _object(output, "parameters").get("binary_data") for output in outputs}


def outputs_of(
    predictions: Sequence[Prediction], wanted: Mapping[str, bool | None]
) -> list[Tensor]:
    """The outputs that were asked for; without a choice the prediction, and the probability of each class."""
    values = [prediction.value for prediction in predictions]
    rows = [probability_columns(prediction.probabilities) for prediction in predictions]
    names = next((list(row) for row in rows if row), [])
    columns = {"predict": values} | {name: [row.get(name) for row in rows] for name in names}
    if not wanted:
        return [tensor_of(name, column) for name, column in columns.items()]
    columns["transform"] = values
    columns["error"] = [
        "" if prediction.error is None else f"{prediction.error.code}: {prediction.error.message}"
        for prediction in predictions
    ]
    if names:
        columns["predict_proba"] = [[row.get(name) for name in names] for row in rows]
    unknown = next((name for name in wanted if name not in columns), None)
    if unknown is not None:
        raise bad(
            f"the model has no output {unknown[:80]!r}; expected some of {', '.join(columns)}"
        )
    return [tensor_of(name, columns[name]) for name in wanted]


def probability_columns(probabilities: Mapping[Any, Any]) -> dict[str, float]:
    """Probabilities by the names of their columns."""
    columns: dict[str, float] = {}
    for label, share in probabilities.items():
        if isinstance(share, dict):
            columns |= {
                probability_column(output, label): number for output, number in share.items()
            }
        else:
            columns[probability_column(label)] = share
    return columns


def response_of(
    answered: dict[str, Any],
    tensors: Sequence[Tensor],
    wanted: Mapping[str, bool | None],
    *,
    is_binary: bool,
) -> Response:
    """The answer: JSON, and behind it the outputs that were asked for as binary data."""
    outputs, tails = [], []
    for tensor in tensors:
        chosen = wanted.get(tensor.name)
        if is_binary if chosen is None else chosen is True:
            tails.append(packed(tensor))
            size = {"binary_data_size": len(tails[-1])}
            outputs.append(_output(tensor, {**tensor.parameters, **size}))
        else:
            outputs.append(_output(tensor, tensor.parameters, data=tensor.data))
    if all(tensor.is_column for tensor in tensors):
        answered["parameters"] = AS_COLUMNS
    answered["outputs"] = outputs
    head = orjson.dumps(answered)
    if not tails:
        return Response(head, media_type="application/json")
    return Response(
        head + b"".join(tails),
        headers={"Inference-Header-Content-Length": str(len(head))},
        media_type="application/octet-stream",
    )


def response_of_one(prediction: Prediction, model: str, request_id: str | None) -> Response:
    """The answer for one record in JSON: the same as by `outputs_of` and `response_of`, in less time."""
    value = prediction.value
    first = tensor_of("predict", [value])
    outputs = [_output(first, first.parameters, data=first.data)]
    for name, share in probability_columns(prediction.probabilities).items():
        outputs.append({"name": name, "shape": _ONE, "datatype": "FP64", "data": [share]})
    answered = head_of((prediction,), model, request_id)
    if first.is_column:
        answered["parameters"] = AS_COLUMNS
    answered["outputs"] = outputs
    return Response(orjson.dumps(answered), media_type="application/json")


def _output(tensor: Tensor, parameters: Mapping[str, Any], **data: Any) -> dict[str, Any]:
    output = {"name": tensor.name, "shape": tensor.shape, "datatype": tensor.datatype, **data}
    if parameters:
        output["parameters"] = parameters
    return output


routes = [
    route("/v2/models/{model}/infer", infer, right=Right.SCORE, methods=["POST"]),
    route(
        "/v2/models/{model}/versions/{version}/infer", infer, right=Right.SCORE, methods=["POST"]
    ),
]
