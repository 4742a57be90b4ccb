"""The clients of the Open Inference Protocol that its users have, with their defaults, against a real server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http
import tritonclient.http.aio
from open_inference.openapi.client import OpenInferenceClient
from open_inference.openapi.errors import BadRequestError
from open_inference.openapi.types import InferenceRequest

from scoreline_client.testing import FakeScoreline
from tests.support.http_models import PIMA_ROW, VISITS, VISITS_CLASSES
from tests.support.http_server import Served, serving
from tests.unit.gateway.v2.test_inference import columns, visits


@pytest.fixture(scope="module")
def served(scoreline: FakeScoreline) -> Iterator[Served]:
    with serving(scoreline) as one:
        yield one


def triton_inputs(kind: Any) -> list[Any]:
    """The visits as tritonclient's inputs, binary as they are by default."""
    inputs = []
    for name, datatype in (("town", "BYTES"), ("since", "BYTES"), ("smokes", "BOOL"), ("weight", "FP64"), ("visits", "INT64")):  # fmt: skip
        values = VISITS[name].astype(str).to_numpy(object) if datatype == "BYTES" else VISITS[name].to_numpy()  # fmt: skip
        one = kind(name, [len(VISITS), 1], datatype)
        one.set_data_from_numpy(values.reshape(-1, 1))
        inputs.append(one)
    return inputs


def test_tritonclient_asks_with_its_defaults(served: Served) -> None:
    with tritonclient.http.InferenceServerClient(served.address) as client:
        assert client.is_server_live()
        assert client.get_server_metadata()["name"] == "scoreline"
        assert client.is_model_ready("pima")
        assert client.get_model_metadata("visits", "3")["versions"] == ["3"]
        names = {each["name"] for each in client.get_model_repository_index()}
        assert names == {"pima", "visits"}
        answer = client.infer("visits", triton_inputs(tritonclient.http.InferInput), request_id="a")
        assert answer.get_response()["id"] == "a"
        assert [each.decode() for each in answer.as_numpy("predict")] == VISITS_CLASSES
        matrix = tritonclient.http.InferInput("input", [1, 8], "FP64")
        matrix.set_data_from_numpy(np.array([list(PIMA_ROW.values())]))
        pima = client.infer("pima", [matrix], model_version="3", timeout=5_000_000)
        assert pima.as_numpy("predict").tolist() == [1]


def test_tritonclient_asks_in_json_and_with_an_alias_in_the_name(served: Served) -> None:
    with tritonclient.http.InferenceServerClient(served.address) as client:
        inputs = []
        for name, value in PIMA_ROW.items():
            kind = "INT64" if isinstance(value, int) else "FP64"
            one = tritonclient.http.InferInput(name, [1], kind)
            one.set_data_from_numpy(np.array([value]), binary_data=False)
            inputs.append(one)
        wanted = [
            tritonclient.http.InferRequestedOutput("predict_proba", binary_data=False),
            tritonclient.http.InferRequestedOutput("predict"),
        ]
        answer = client.infer("pima@production", inputs, outputs=wanted)
        assert answer.as_numpy("predict_proba").shape == (1, 2)
        assert answer.as_numpy("predict").tolist() == [1]


def test_tritonclient_shows_what_was_refused_and_goes_on(served: Served) -> None:
    with tritonclient.http.InferenceServerClient(served.address, concurrency=1) as client:
        for _ in range(3):
            with pytest.raises(tritonclient.utils.InferenceServerException, match="is missing"):
                client.infer("visits", triton_inputs(tritonclient.http.InferInput)[:2])
            with pytest.raises(tritonclient.utils.InferenceServerException, match="nobody"):
                client.infer("nobody", triton_inputs(tritonclient.http.InferInput))
        assert client.is_server_live()


async def test_tritonclient_asks_with_asyncio(served: Served) -> None:
    async with tritonclient.http.aio.InferenceServerClient(served.address) as client:
        answer = await client.infer("visits", triton_inputs(tritonclient.http.aio.InferInput))
        assert [each.decode() for each in answer.as_numpy("predict")] == VISITS_CLASSES


def test_open_inference_openapi_asks(served: Served) -> None:
    client = OpenInferenceClient(base_url=f"http://{served.address}")
    with client._client_wrapper.httpx_client:
        ask_by_open_inference_openapi(client)


def ask_by_open_inference_openapi(client: OpenInferenceClient) -> None:
    client.check_server_liveness()
    assert client.read_server_metadata().name == "scoreline"
    given = InferenceRequest.parse_obj({"inputs": columns(2), "id": "7"})
    answer = client.model_infer("pima", request=given)
    assert answer.outputs[0].data.__root__ == [1, 1]
    # Its types have no null, and make numbers of texts that are some; JSON in texts has null.
    inputs = visits()
    inputs[3] |= {
        "datatype": "BYTES",
        "data": ["70.5", "80.25", "null", "64"],
        "parameters": {"content_type": "pd_json"},
    }
    of_visits = InferenceRequest.parse_obj({"inputs": inputs})
    predict = client.model_version_infer("visits", "3", request=of_visits).outputs[0]
    assert predict.data.__root__ == VISITS_CLASSES
    with pytest.raises(BadRequestError, match="is missing"):
        client.model_infer("visits", request=InferenceRequest.parse_obj({"inputs": inputs[:4]}))
