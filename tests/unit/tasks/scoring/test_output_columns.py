"""Each output has a column of its own for callers who know of several, and others get what they have always got."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from scoreline_artifacts import Outputs, Schema
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_artifacts.manifest import OutputType, PipelineOutput
from scoreline_client.options import CsvChunk, RequestOptions
from scoreline_client.protocol.arrow_tables import read_stream, write_stream
from scoreline_client.protocol.json_records import predictions_of
from scoreline_client.protocol.messages import Answer, Codec, Operation, Request
from tests.support.bulk import StubTransport, run
from tests.support.scoring import answer_to


class Several:
    """A size and whether it is much, with probabilities of both."""

    def predict(self, frame: pd.DataFrame) -> Any:
        return [["big" if x > 5 else "low", x > 7] for x in frame["a"].tolist()]

    def predict_proba(self, frame: pd.DataFrame) -> Any:
        return [np.tile([0.25, 0.75], (len(frame), 1)), np.tile([0.5, 0.5], (len(frame), 1))]


LOADED = LoadedVersion(
    pipeline=Several(),
    model="several",
    version=4,
    outputs=Outputs(
        method="predict",
        each=[
            PipelineOutput(name="size", type=OutputType.TEXT, classes=["big", "low"]),
            PipelineOutput(name="much", type=OutputType.BOOLEAN, classes=[False, True]),
        ],
    ),
    schema=Schema.infer(pd.DataFrame({"a": [1.5]})),
)
NAMES = [
    "prediction_size", "prediction_much", "probability_size_big", "probability_size_low",
    "probability_much_False", "probability_much_True", "error",
]  # fmt: skip
TABLE = pa.table({"a": [9.0, None, 1.0]})


def _ask(body: bytes, codec: Codec, **fields: Any) -> Answer:
    request = Request(id="1" * 32, model="several", body=body, codec=codec, **fields)
    return answer_to(request, LOADED)


def _table(**fields: Any) -> Any:
    return read_stream(_ask(write_stream(TABLE).to_pybytes(), Codec.ARROW, **fields).body)


def test_a_frame_has_a_column_for_each_output() -> None:
    table = _table(by_output=True)
    assert table.column_names == NAMES
    assert table.column("prediction_size").to_pylist() == ["big", None, "low"]
    assert table.column("prediction_much").to_pylist() == [True, None, False]
    assert table.column("probability_size_low").to_pylist() == [0.75, None, 0.75]


def test_a_caller_who_does_not_know_of_outputs_gets_one_column() -> None:
    table = _table()
    assert table.column_names == ["prediction", "error"]
    assert table.column("prediction").to_pylist() == [["big", "True"], None, ["low", "False"]]
    head = CsvChunk(columns=["a"], first_row=1, first_line=2)
    lines = bytes(_ask(head.encode(b"9\nx\n"), Codec.CSV).body).splitlines()
    assert lines[0] == b"9,big True,"
    assert lines[1].startswith(b"x,,E_TYPE")


def test_what_options_name_comes_in_their_order() -> None:
    options = RequestOptions(outputs=["probability_much_True", "error", "prediction_much"])
    table = _table(options=options.encoded_options, by_output=True)
    assert table.column_names == ["probability_much_True", "error", "prediction_much"]


@pytest.mark.parametrize("name", ["prediction_colour", "probability_big"])
def test_an_output_that_the_version_does_not_have_is_refused(name: str) -> None:
    options = RequestOptions(outputs=[name]).encoded_options
    answer = _ask(write_stream(TABLE).to_pybytes(), Codec.ARROW, options=options)
    assert answer.error is not None
    assert answer.error["code"] == "E_WIRE"
    assert "prediction_size" in answer.error["message"]


def test_probabilities_of_records_are_by_output() -> None:
    answer = _ask(b'[{"a": 9.0}, {"a": "x"}]', Codec.JSON)
    good, bad = predictions_of(answer)
    assert good.value == ["big", True]
    assert good.probabilities == {
        "size": {"big": 0.25, "low": 0.75},
        "much": {False: 0.5, True: 0.5},
    }
    assert (bad.value, bad.probabilities) == (None, {})
    # A client that does not read `outputs` finds no classes, and so no probabilities.
    assert answer.classes is None
    assert predictions_of(replace(answer, outputs=None))[0].value == ["big", True]


def _without_outputs(request: Request) -> Answer:
    """A worker of an earlier release."""
    answer = answer_to(request, LOADED)
    if request.operation is Operation.DESCRIBE and answer.description is not None:
        del answer.description["outputs"]["each"]
    return answer


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_worker_that_does_not_tell_outputs_answers_in_one_column(
    kind: str, tmp_path: Path
) -> None:
    source, target = tmp_path / f"in.{kind}", tmp_path / f"out.{kind}"
    if kind == "csv":
        source.write_text("a\n9\n")
    elif kind == "jsonl":
        source.write_text('{"a": 9.0}\n')
    else:
        pyarrow.parquet.write_table(TABLE.slice(0, 1), source)
    run(source, target, transport=StubTransport(_without_outputs), model="several")
    if kind == "csv":
        assert target.read_text() == "a,prediction,error\n9,big True,\n"
    elif kind == "jsonl":
        row = orjson.loads(target.read_bytes())
        assert row == {"a": 9.0, "prediction": ["big", True], "error": None}
    else:
        assert pyarrow.parquet.read_table(target).column_names == ["a", "prediction", "error"]
