"""`POST /invocations`, as MLflow's scoring server and SageMaker's containers have it: frames as JSON or CSV in, labels out."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from scoreline_client.codes import Code
from scoreline_gateway.access import Right, principal_of, route
from scoreline_gateway.body import (
    content_type,
    hold_json,
    hold_unpacked,
    kind_in_json,
    parse_json,
    read_body,
    refuse_media_type,
)
from scoreline_gateway.errors import HttpCode, HttpRefused
from scoreline_gateway.scoring import options_of, raise_rejection, score

FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
"""The fields of a JSON body, of which it has one."""


def bad(message: str, code: Code | HttpCode = HttpCode.BAD_REQUEST) -> HttpRefused:
    """What is raised for a body that is in none of the forms."""
    return HttpRefused(400, code, message)


async def invocations(request: Request) -> Response:
    """Predict a frame; a record that is rejected is an error of the whole request.

    Without a model in the path, it is the one that SCORELINE_GATEWAY_MODEL names.
    """
    model = request.path_params.get("model") or request.app.settings.gateway_model
    if not model:
        message = (
            "there is no default model; the operator names one by SCORELINE_GATEWAY_MODEL, "
            "and /models/MODEL/invocations answers for any other"
        )
        raise HttpRefused(404, HttpCode.NOT_FOUND, message)
    principal_of(request).check(Right.SCORE, model)
    kind, parameters = content_type(request)
    # Those of MLflow: a parameter that is not known might change what the body means.
    if parameters.keys() - {"charset"} or parameters.get("charset", "utf-8").lower() not in (
        "utf-8",
        "utf8",
    ):
        raise refuse_media_type(
            request.headers["content-type"], f"{kind} in UTF-8, without other parameters"
        )
    body = await read_body(request, request.app.settings.max_request_bytes)
    match kind:
        case "application/json":
            hold_json(request, body)
            document = parse_json(body)
            records, columns = read_frame(document)
            options = options_of(document.get("params") or {})
        case "text/csv":
            lines = body.count(b"\n") + body.count(b"\r")
            hold_unpacked(request, lines, lines + body.count(b","))
            records, columns = read_csv(body), None
            # In CSV, everything is text.
            options = replace(options_of({}), coerce=True)
        case _:
            raise refuse_media_type(kind, "application/json or text/csv")
    if columns is not None:
        names = columns or (await request.app.fleet.describe(model)).known
        records = [named(names, row, index) for index, row in enumerate(records)]
    predictions = await score(request, model, records, options=options)
    raise_rejection(predictions)
    values = [prediction.value for prediction in predictions]
    if request.headers.get("accept", "").partition(",")[0].partition(";")[0].strip() == "text/csv":
        text = io.StringIO()
        rows = (value if isinstance(value, list) else [value] for value in values)
        csv.writer(text, lineterminator="\n").writerows(rows)
        return Response(text.getvalue(), media_type="text/csv")
    return Response(orjson.dumps({"predictions": values}), media_type="application/json")


def read_frame(document: Any) -> tuple[list[Any], Sequence[str] | None]:
    """Records of a JSON body; or its rows, with the names of their columns, which are empty for those of the model.

    Raises:
        HttpRefused: it is in none of MLflow's forms.
    """
    forms = [form for form in FORMS if form in document] if isinstance(document, dict) else []
    if len(forms) != 1 or not isinstance(document.get("params") or {}, dict):
        raise bad(
            f"the body must be an object with one of {', '.join(FORMS)}, and perhaps `params`"
        )
    (form,) = forms
    frame = document[form]
    if form == "dataframe_split":
        columns, rows = (
            (frame.get("columns"), frame.get("data")) if isinstance(frame, dict) else ("", "")
        )
        if not isinstance(columns, list) or not isinstance(rows, list) or not columns:
            raise bad("`dataframe_split` must be an object with lists `columns` and `data`")
        names = [str(name) for name in columns]
        if len(set(names)) < len(names):
            raise bad("`dataframe_split` has a column twice", Code.DUPLICATE_COLUMN)
        return rows, names
    if form == "inputs" and isinstance(frame, dict):
        lists = [values if isinstance(values, list) else [values] for values in frame.values()]
        if len({len(values) for values in lists}) > 1:
            raise bad("the columns of `inputs` have different lengths")
        return [
            dict(zip(frame, row, strict=True)) for row in zip(*map(unnested, lists), strict=True)
        ], None
    if not isinstance(frame, list):
        raise bad(f"`{form}` must be a list")
    if form == "dataframe_records" or all(isinstance(row, dict) for row in frame):
        return frame, None
    return frame, ()


def unnested(column: list[Any]) -> list[Any]:
    """The values of a column whose values are given as lists of one."""
    return [value[0] if isinstance(value, list) and len(value) == 1 else value for value in column]


def named(columns: Sequence[str], row: Any, index: int) -> Mapping[str, Any]:
    """A record of a row.

    Raises:
        HttpRefused: it has not as many values as there are columns.
    """
    if not isinstance(row, list) or len(row) != len(columns):
        actual = f"{len(row)} values" if isinstance(row, list) else kind_in_json(row)
        raise bad(f"row {index} has {actual}; expected a list of {len(columns)}", Code.FIELD_COUNT)
    return dict(zip(columns, row, strict=True))


def read_csv(body: bytes) -> list[dict[str, str | None]]:
    """Records of CSV text with a header; an empty field is a missing value.

    Raises:
        HttpRefused: it is not valid UTF-8 or CSV, has a column twice, or a row has too few or too many fields.
    """
    try:
        rows = csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
        header = next(rows, [])
        if len(set(header)) < len(header):
            raise bad("the header has a column twice", Code.DUPLICATE_COLUMN)
        return [
            {name: text or None for name, text in named(header, row, index).items()}
            for index, row in enumerate(row for row in rows if row)
        ]
    except UnicodeDecodeError as error:
        raise bad(f"the body is no valid UTF-8: {error.reason}", Code.ENCODING) from None
    except csv.Error as error:
        raise bad(f"the body is no valid CSV: {error}", Code.QUOTE) from None


routes = [
    route("/invocations", invocations, right=Right.SCORE, methods=["POST"]),
    route("/models/{model}/invocations", invocations, right=Right.SCORE, methods=["POST"]),
]
