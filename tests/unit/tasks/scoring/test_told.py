"""What a caller may learn from a refusal, and what a process keeps of it."""

from __future__ import annotations

import codecs

import orjson
import pandas as pd
import pytest

from scoreline_artifacts import Schema
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_client.protocol.messages import Answer, Codec, Request, new_id
from scoreline_tasks.scoring.batch import Batcher
from scoreline_tasks.scoring.limits import Limits
from tests.support.models import Classifier
from tests.support.scoring import OneVersion, answer_to, entry_of

TOWNS = Schema.infer(pd.DataFrame({"town": pd.Categorical(["Ulm", "Bonn"])}))
LOADED = LoadedVersion.of(Classifier(), "m", 1, TOWNS)


@pytest.mark.parametrize("is_told", [True, False])
def test_a_worker_may_be_told_to_name_no_value_of_training(is_told: bool) -> None:
    batcher = Batcher(OneVersion(LOADED), Limits(1 << 20, 1000, is_told))
    for record in ({"town": "Ulmm"}, {"tovn": "Ulm"}):
        request = Request(id=new_id(), model="m", body=orjson.dumps([record]))
        (finished,) = batcher.answer([entry_of(request)], 1000)
        told = str(Answer.decode(finished.answer)).replace("Ulmm", "")
        assert ("Ulm" in told) == (is_told and "town" in record)


@pytest.mark.parametrize("encoding", ["klingon", "e" * (1 << 20)])
def test_an_encoding_that_is_none_is_not_looked_for_in_python(encoding: str) -> None:
    """Python keeps each name that it was asked for, for ever."""
    looked_for: list[str] = []
    search = looked_for.append  # asked for what Python does not know
    codecs.register(search)  # type: ignore[arg-type]
    try:
        head = {"columns": ["town"], "first_row": 1, "first_line": 2, "encoding": encoding}
        body = orjson.dumps(head) + b"\nUlm\n"
        error = answer_to(Request(id=new_id(), model="m", codec=Codec.CSV, body=body), LOADED).error
    finally:
        codecs.unregister(search)  # type: ignore[arg-type]
    assert error is not None
    assert error["code"] == "E_WIRE"
    assert len(error["message"]) < 1000
    assert looked_for == []
