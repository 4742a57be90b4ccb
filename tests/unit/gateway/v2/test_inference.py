"""Tensors in, predictions out, as the Open Inference Protocol has it."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest

from scoreline_client.predictions import Prediction
from scoreline_client.testing import FakeScoreline
from scoreline_gateway.app import Gateway
from scoreline_gateway.v2.inference import head_of, outputs_of, response_of, response_of_one
from scoreline_gateway.v2.tensors import Tensor, read_one_record, records_of
from tests.support.asgi import Reply, call, gateway
from tests.support.http_models import PIMA_ROW, VISITS, VISITS_CLASSES

INFER = "/v2/models/pima/infer"
MATRIX = [{"name": "input-0", "shape": [2, 8], "datatype": "FP64"}]


def columns(rows: int = 1, **changes: Any) -> list[dict[str, Any]]:
    """Inputs for Pima: a column each, the same row several times."""
    return [
        {
            "name": name,
            "shape": [rows],
            "datatype": "INT64" if isinstance(value, int) else "FP64",
            "data": [changes.get(name, value)] * rows,
        }
        for name, value in PIMA_ROW.items()
    ]


def visits() -> list[dict[str, Any]]:
    """Inputs for the model with text, dates, truth values and missing numbers, as MLServer's PandasCodec makes them."""
    weights = [None if np.isnan(each) else each for each in VISITS["weight"]]
    since = [each.isoformat() for each in VISITS["since"]]
    of_text = {"content_type": "str"}
    n = len(VISITS)
    return [
        {"name": "town", "shape": [n, 1], "datatype": "BYTES", "parameters": of_text, "data": list(VISITS["town"])},
        {"name": "since", "shape": [n, 1], "datatype": "BYTES", "parameters": {"content_type": "datetime"}, "data": since},
        {"name": "smokes", "shape": [n, 1], "datatype": "BOOL", "data": VISITS["smokes"].tolist()},
        {"name": "weight", "shape": [n, 1], "datatype": "FP64", "data": weights},
        {"name": "visits", "shape": [n, 1], "datatype": "INT64", "data": VISITS["visits"].tolist()},
    ]  # fmt: skip


def outputs(reply: Reply) -> dict[str, Any]:
    assert reply.status == 200, reply.body
    return {each["name"]: each["data"] for each in reply.json["outputs"]}


async def test_a_column_each_makes_records(app: Gateway) -> None:
    reply = await call(app, "POST", INFER, {"id": "7", "inputs": columns(3)})
    assert outputs(reply)["predict"] == [1, 1, 1]
    head = {name: value for name, value in reply.json.items() if name != "outputs"}
    assert head == {
        "id": "7",
        "model_name": "pima",
        "model_version": "3",
        "parameters": {"content_type": "pd"},
    }


PLAIN = [{"parameters": {"content_type": kind}} for kind in ("pd", "np", "str")]


@pytest.mark.parametrize("changes", [{}, *PLAIN, {"shape": [1, 1]}, {"datatype": "BYTES"}])
async def test_one_record_is_answered_alike_in_its_plainest_form_and_in_any_other(
    app: Gateway, changes: dict[str, Any]
) -> None:
    given = [columns()[0] | changes, *columns()[1:]]
    whole = {"id": "7", "parameters": {"content_type": "pd"}, "inputs": given}
    assert read_one_record(orjson.dumps(whole)) is not None
    other = whole | {"parameters": {"content_type": "pd", "priority": 0}}
    assert read_one_record(orjson.dumps(other)) is None
    answers = [await call(app, "POST", INFER, one) for one in (whole, other)]
    assert [each.json for each in answers] == [answers[0].json] * 2
    assert [each.headers for each in answers] == [answers[0].headers] * 2


@pytest.mark.parametrize(
    "changes",
    [
        {"datatype": "BOOL", "data": [1]},
        {"data": [[6]]},
        {"data": [6, 6]},
        {"data": [{}]},
        {"shape": [True]},
        {"shape": [2]},
        {"shape": [1, 1, 1]},
        {"name": "plas"},
        {"parameters": {"content_type": "base64"}},
        {"parameters": {"binary_data_size": 8}},
        {"parameters": [1]},
        {"anything": "else"},
    ],
)
def test_what_has_to_be_looked_at_is_not_taken_for_plain(changes: dict[str, Any]) -> None:
    given = {"inputs": [columns()[0] | changes, *columns()[1:]]}
    assert read_one_record(orjson.dumps(given)) is None


@pytest.mark.parametrize("number", [2**63, 10**30, -(2**63) - 1])
def test_a_whole_number_that_no_machine_word_holds_is_not_taken_for_plain(number: int) -> None:
    plain = json.dumps({"inputs": [columns()[0] | {"data": [6]}, *columns()[1:]]}).encode()
    assert read_one_record(plain) is not None
    given = {"inputs": [columns()[0] | {"data": [number]}, *columns()[1:]]}
    assert read_one_record(json.dumps(given).encode()) is None


async def test_text_dates_truth_values_and_missing_numbers_arrive(app: Gateway) -> None:
    given = {"parameters": {"content_type": "pd"}, "inputs": visits()}
    reply = await call(app, "POST", "/v2/models/visits/infer", given)
    assert outputs(reply)["predict"] == VISITS_CLASSES
    predict = reply.json["outputs"][0]
    assert (predict["datatype"], predict["parameters"]) == ("BYTES", {"content_type": "str"})
    assert outputs(reply)["probability_unknown"] == [0.1, 0.1, 0.8, 0.1]


@pytest.mark.parametrize("nested", [True, False])
async def test_a_matrix_is_read_in_the_order_of_the_columns(app: Gateway, *, nested: bool) -> None:
    row = list(PIMA_ROW.values())
    data = [row, row] if nested else row + row
    given = {"inputs": [MATRIX[0] | {"data": data}], "outputs": [{"name": "predict_proba"}]}
    reply = await call(app, "POST", INFER, given)
    (proba,) = reply.json["outputs"]
    assert (proba["shape"], proba["datatype"]) == ([2, 2], "FP64")
    assert "parameters" not in reply.json
    assert sum(proba["data"][:2]) == pytest.approx(1)


async def test_a_version_is_asked_by_its_path(app: Gateway) -> None:
    of_version = "/v2/models/pima/versions/3/infer"
    assert (await call(app, "POST", of_version, {"inputs": columns()})).status == 200
    other = await call(app, "POST", "/v2/models/pima/versions/4/infer", {"inputs": columns()})
    assert (other.status, other.json["code"]) == (404, "E_UNKNOWN_MODEL")


async def test_binary_inputs_and_outputs_stand_behind_the_json(app: Gateway) -> None:
    row = np.array([list(PIMA_ROW.values())] * 2, dtype="<f8")
    tail = row.tobytes()
    given = {
        "inputs": [MATRIX[0] | {"parameters": {"binary_data_size": len(tail)}}],
        "parameters": {"binary_data_output": True},
    }
    head = orjson.dumps(given)
    headers = {
        "Inference-Header-Content-Length": str(len(head)),
        "Content-Type": "application/octet-stream",
    }
    reply = await call(app, "POST", INFER, head + tail, headers=headers)
    assert reply.status == 200, reply.body
    size = int(reply.headers["inference-header-content-length"])
    described = orjson.loads(reply.body[:size])["outputs"]
    assert all("data" not in each for each in described)
    assert struct.unpack_from("<2q", reply.body, size) == (1, 1)
    assert len(reply.body) - size == sum(
        each["parameters"]["binary_data_size"] for each in described
    )


async def test_binary_text_has_its_length_before_it(app: Gateway) -> None:
    given = visits()
    texts = [each.encode() for each in given[0].pop("data")]
    tail = b"".join(struct.pack("<I", len(each)) + each for each in texts)
    given[0]["parameters"] = {"binary_data_size": len(tail)}
    wanted = [{"name": "predict", "parameters": {"binary_data": True}}]
    head = orjson.dumps({"inputs": given, "outputs": wanted})
    headers = {"Inference-Header-Content-Length": str(len(head))}
    reply = await call(app, "POST", "/v2/models/visits/infer", head + tail, headers=headers)
    size = int(reply.headers["inference-header-content-length"])
    assert reply.body[size:] == b"".join(
        struct.pack("<I", len(each)) + each.encode() for each in VISITS_CLASSES
    )


async def test_a_bare_nan_is_a_missing_number(app: Gateway) -> None:
    body = orjson.dumps({"inputs": visits()}).replace(b"null", b"NaN")
    reply = await call(app, "POST", "/v2/models/visits/infer", body)
    assert outputs(reply)["predict"] == VISITS_CLASSES


async def test_base64_and_json_in_texts_are_unpacked(app: Gateway) -> None:
    given = visits()
    given[0]["data"] = [base64.b64encode(each.encode()).decode() for each in given[0]["data"]]
    given[0]["parameters"] = {"content_type": "base64"}
    given[4] |= {
        "datatype": "BYTES",
        "data": ["1", "2", "3", "4"],
        "parameters": {"content_type": "pd_json"},
    }
    reply = await call(app, "POST", "/v2/models/visits/infer", {"inputs": given})
    assert outputs(reply)["predict"] == VISITS_CLASSES


async def test_a_rejected_record_is_named_in_the_error(app: Gateway) -> None:
    given = columns(2)
    given[1]["data"] = [148, None]
    reply = await call(app, "POST", INFER, {"inputs": given})
    assert reply.status == 400
    assert reply.headers["content-type"] == "application/json"
    assert (reply.json["code"], reply.json["column"]) == ("E_NULL", "plas")
    assert reply.json["error"].startswith("record 1: ")


async def test_who_asks_for_errors_gets_the_other_predictions(app: Gateway) -> None:
    given = columns(2)
    given[1]["data"] = [148, None]
    wanted = [{"name": "predict"}, {"name": "error"}]
    reply = await call(app, "POST", INFER, {"inputs": given, "outputs": wanted})
    assert outputs(reply)["predict"] == [1.0, None]
    assert outputs(reply)["error"][0] == ""
    assert outputs(reply)["error"][1].startswith("E_NULL: ")


async def test_options_of_scoring_are_parameters(app: Gateway) -> None:
    given = {"inputs": columns(), "parameters": {"coerce": True, "priority": 0}}
    given["inputs"][0] |= {"datatype": "BYTES", "data": ["6"]}
    assert outputs(await call(app, "POST", INFER, given))["predict"] == [1]
    given["parameters"] = {"unseen": "perhaps"}
    refused = await call(app, "POST", INFER, given)
    assert (refused.status, refused.json["code"]) == (400, "E_BAD_REQUEST")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "JSON object"),
        ({}, "`inputs`"),
        ({"inputs": {}}, "`inputs`"),
        ({"inputs": [1]}, "`inputs`"),
        ({"inputs": []}, "no records"),
        ({"inputs": columns(), "id": 7}, "`id`"),
        ({"inputs": columns(), "parameters": []}, None),
        ({"inputs": columns(), "parameters": [1]}, "`parameters`"),
        ({"inputs": columns(), "outputs": ["predict"]}, "`outputs`"),
        ({"inputs": columns(), "outputs": [{"name": "nonsense"}]}, "'nonsense'"),
        ({"inputs": [{"shape": [1], "datatype": "INT64", "data": [1]}]}, "`name`"),
        ({"inputs": [columns()[0] | {"datatype": "INT128"}]}, "`datatype`"),
        ({"inputs": [columns()[0] | {"datatype": ["INT64"]}]}, "`datatype`"),
        ({"inputs": [columns()[0] | {"shape": [-1]}]}, "`shape`"),
        ({"inputs": [columns()[0] | {"shape": [True]}]}, "`shape`"),
        ({"inputs": [columns()[0] | {"shape": [1, 1, 1]}]}, "`shape`"),
        ({"inputs": [columns()[0] | {"shape": [10**18, 9]}]}, "needs"),
        ({"inputs": [columns()[0] | {"data": {"a": 1}}]}, "`data`"),
        ({"inputs": [columns()[0] | {"data": [1, 2]}]}, "needs 1 values, not 2"),
        ({"inputs": [columns()[0] | {"parameters": 5}]}, "`parameters`"),
        ({"inputs": [columns()[0] | {"parameters": {"binary_data_size": 8}}]}, "binary data"),
        ({"inputs": [columns()[0] | {"parameters": {"binary_data_size": -8}}]}, "binary data"),
        ({"inputs": columns()[1:] + columns(2)[:1]}, "has 2 values"),
        ({"inputs": columns() + columns()[:1]}, "2 times"),
        ({"inputs": [MATRIX[0] | {"data": [1] * 16}, *columns()]}, "beside other inputs"),
        ({"inputs": [MATRIX[0] | {"shape": [8, 2], "data": [1] * 16}]}, "has 2 columns"),
        (
            {"inputs": [columns()[0] | {"datatype": "BYTES", "data": ["?"], "parameters": {"content_type": "base64"}}]},
            "base64",
        ),
    ],
)  # fmt: skip
async def test_what_does_not_follow_the_protocol_is_refused_with_its_place(
    app: Gateway, given: Any, said: str | None
) -> None:
    reply = await call(app, "POST", INFER, given)
    if said is None:
        assert reply.status == 200
    else:
        assert reply.status == 400
        assert said in reply.json["error"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff", b"[" * 100_000, b'{"inputs": ' + b"[" * 900, b"1" * 5000, b'"\\ud800"'],
)
async def test_what_is_no_json_is_refused(app: Gateway, body: bytes) -> None:
    reply = await call(app, "POST", INFER, body)
    assert reply.status == 400
    assert reply.json["code"] in ("E_JSON", "E_WIRE")


async def test_data_nested_too_deeply_is_refused(app: Gateway) -> None:
    body = b'{"inputs":[{"name":"preg","shape":[1],"datatype":"INT64","data":%s1%s}]}'
    reply = await call(app, "POST", INFER, body % (b"[" * 500, b"]" * 500))
    assert "nested too deeply" in reply.json["error"]


@pytest.mark.parametrize("header", ["-1", "9" * 40, "1.5", "99999", "٣"])
async def test_a_length_of_json_that_cannot_be_is_refused(app: Gateway, header: str) -> None:
    headers = {"Inference-Header-Content-Length": header}
    reply = await call(app, "POST", INFER, {"inputs": columns()}, headers=headers)
    assert reply.status == 400


@pytest.mark.parametrize(
    ("datatype", "tail", "said"),
    [
        ("INT64", b"\x00" * 7, "no whole number"),
        ("BYTES", b"\x05\x00\x00\x00abc", "ends too early"),
        ("BYTES", b"\xff\xff\xff\xff", "ends too early"),
        ("BYTES", b"\x01\x00\x00\x00\xff", "UTF-8"),
        ("INT64", b"\x00" * 16, "needs 1 values, not 2"),
    ],
)
async def test_binary_data_that_is_cut_is_refused(
    app: Gateway, datatype: str, tail: bytes, said: str
) -> None:
    one = {"name": "preg", "shape": [1], "datatype": datatype}
    head = orjson.dumps({"inputs": [one | {"parameters": {"binary_data_size": len(tail)}}]})
    headers = {"Inference-Header-Content-Length": str(len(head))}
    reply = await call(app, "POST", INFER, head + tail, headers=headers)
    assert reply.status == 400
    assert said in reply.json["error"]


async def test_bytes_that_belong_to_no_input_are_refused(app: Gateway) -> None:
    head = orjson.dumps({"inputs": columns()})
    headers = {"Inference-Header-Content-Length": str(len(head))}
    reply = await call(app, "POST", INFER, head + b"12345", headers=headers)
    assert "5 bytes" in reply.json["error"]


async def test_another_content_type_is_refused(app: Gateway) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    reply = await call(app, "POST", INFER, {"inputs": columns()}, headers=headers)
    assert (reply.status, reply.json["code"]) == (415, "E_MEDIA_TYPE")


async def test_numbers_of_other_widths_are_those_that_they_say(app: Gateway) -> None:
    frame = pd.DataFrame([PIMA_ROW]).astype({"preg": "int8", "plas": "uint16", "mass": "float32"})
    given = [
        {
            "name": name,
            "shape": [1, 1],
            "datatype": {"int8": "INT8", "uint16": "UINT16", "float32": "FP32"}.get(
                str(kind), "INT64" if kind.kind == "i" else "FP64"
            ),
            "parameters": {"binary_data_size": kind.itemsize},
        }
        for name, kind in frame.dtypes.items()
    ]
    head = orjson.dumps({"inputs": given})
    tail = b"".join(frame[name].to_numpy().tobytes() for name in frame)
    headers = {"Inference-Header-Content-Length": str(len(head))}
    reply = await call(app, "POST", INFER, head + tail, headers=headers)
    assert outputs(reply)["predict"] == [1]


async def test_a_time_that_the_caller_names_is_kept(scoreline: FakeScoreline) -> None:
    async with gateway(scoreline) as app:
        given = {"inputs": columns(), "parameters": {"timeout": 1}}
        with scoreline.slow(0.05):
            reply = await call(app, "POST", INFER, given)
    # A worker that takes it soon enough says that its time is over.
    assert (reply.status, reply.json["code"]) in ((504, "E_NO_ANSWER"), (410, "E_EXPIRED"))


@pytest.mark.parametrize(
    "prediction",
    [
        Prediction(1, probabilities={0: 0.25, 1: 0.75}, model="m", version=3),
        Prediction("no", probabilities={"no": 1.0, "yes": 0.0}, model="m", version=3),
        Prediction(True, probabilities={False: 0.0, True: 1.0}, model="m", version=3),
        Prediction(2.5, model="m", version=3),
        Prediction(2**70, model="m"),
        Prediction(None, model="m"),
        Prediction([1.5, 2.5], model="m", version=3),
        Prediction(["a", "b"], model="m", version=3),
        Prediction([], model="m", version=3),
        Prediction({"a": 1, "b": "c"}, probabilities={"a": {0: 0.5, 1: 0.5}, "b": {"c": 1.0}}),
    ],
)
@pytest.mark.parametrize("request_id", [None, "", "an id"])
def test_one_prediction_is_answered_as_any_number_of_them(
    prediction: Prediction, request_id: str | None
) -> None:
    head = head_of([prediction], "asked@candidate", request_id)
    general = response_of(head, outputs_of([prediction], {}), {}, is_binary=False)
    response = response_of_one(prediction, "asked@candidate", request_id)
    assert orjson.loads(response.body) == orjson.loads(general.body)
    assert response.raw_headers[1:] == general.raw_headers[1:]


def test_the_names_of_inputs_are_hardly_compared_with_each_other() -> None:
    compared = 0

    class Name(str):
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

    tensors = [Tensor(Name(f"x{number}"), "INT64", [1], [1], {}) for number in range(2000)]
    (record,) = records_of(tensors, None)
    assert len(record) == 2000
    assert compared < 20_000


async def test_rows_of_few_bytes_are_refused_before_they_are_records(app: Gateway) -> None:
    rows = 3_000_000
    head = {"name": "x", "datatype": "BOOL", "shape": [rows], "parameters": {"binary_data_size": rows}}  # fmt: skip
    text = orjson.dumps({"inputs": [head]})
    length = {"Inference-Header-Content-Length": str(len(text))}
    reply = await call(app, "POST", INFER, text + bytes(rows), headers=length | {"Content-Type": "application/octet-stream"})  # fmt: skip
    assert (reply.status, reply.json["code"]) == (413, "E_TOO_LARGE")
