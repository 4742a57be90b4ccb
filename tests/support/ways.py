"""Every way in: the same rows through each method of a client, scored by a worker in this process."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pandas as pd
import pyarrow.parquet

from scoreline_artifacts import Schema
from scoreline_artifacts.loading.outputs import find_outputs
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_artifacts.manifest import Outputs, OutputType
from scoreline_client import Client, RecordRejected
from scoreline_client.predictions import Prediction
from scoreline_client.testing import FakeScoreline

MODEL = "m"
FORMATS = ("csv", "jsonl", "parquet")


class Answered(NamedTuple):
    """What a caller gets for a record."""

    value: Any
    probabilities: Any
    error: str | None


def version_of(pipeline: Any, train: pd.DataFrame, labels: Any = None) -> LoadedVersion:
    """A version as it would be after publishing and loading, without the clean room in between."""
    found = find_outputs(pipeline, train.head(32), labels)
    loaded = LoadedVersion.of(pipeline, MODEL, 1, Schema.infer(train))
    return LoadedVersion(
        pipeline=pipeline,
        model=MODEL,
        version=1,
        outputs=found.outputs,
        schema=loaded.schema,
        class_from=loaded.class_from if found.outputs.classes else type(loaded.class_from).PREDICT,
    )


def ask_every_way(
    loaded: LoadedVersion, frame: pd.DataFrame, folder: Path, singly: bool = True
) -> dict[str, list[Answered]]:
    """The answers for the rows of a frame, by way in; `singly`: also one by one."""
    records = frame.to_dict("records")
    answers: dict[str, list[Answered]] = {}
    with FakeScoreline() as scoreline:
        scoreline._worker.serve(loaded)
        client = scoreline.client()
        if singly:
            answers["predict"] = [_of_one(client, record) for record in records]
        answers["predict_many"] = _of_predictions(client.predict_many(MODEL, records))
        answers["submit"] = _of_predictions(client.submit(MODEL, records).result(timeout=30))
        found = client.predict_frame(MODEL, frame)
        answers["predict_frame"] = list(_of_rows(_rows_of(found), loaded.outputs))
        for kind in FORMATS:
            source, target = folder / f"in.{kind}", folder / f"out.{kind}"
            _WRITE[kind](frame, source)
            client.score_file(MODEL, source, target)
            answers[kind] = list(_of_rows(_READ[kind](target, loaded.outputs), loaded.outputs))
            rows = [row.prediction for row in client.score_rows(MODEL, source)]
            answers[f"score_rows {kind}"] = _of_predictions(rows)
    return answers


def _of_one(client: Client, record: Mapping[str, Any]) -> Answered:
    try:
        answer = client.predict(MODEL, record, timeout=30)
    except RecordRejected as error:
        return Answered(None, {}, str(error.code))
    return Answered(answer.value, answer.probabilities, None)


def _of_predictions(predictions: Sequence[Prediction]) -> list[Answered]:
    return [
        Answered(one.value, one.probabilities, one.error and one.error.code) for one in predictions
    ]


def _of_rows(rows: Iterator[Mapping[str, Any]], outputs: Outputs) -> Iterator[Answered]:
    """Answers that stand in columns."""
    for row in rows:
        if row["error"]:
            left = [
                row[name] for name in (*outputs.prediction_columns, *outputs.probability_columns)
            ]
            assert left == [None] * len(left)
            yield Answered(None, {}, row["error"].partition(":")[0])
            continue
        values = [row[name] for name in outputs.prediction_columns]
        shares = iter([row[name] for name in outputs.probability_columns])
        probabilities = {label: next(shares) for label in outputs.classes or ()}
        for output in outputs.each or ():
            if output.classes:
                probabilities[output.name] = {label: next(shares) for label in output.classes}
        yield Answered(values if len(values) > 1 else values[0], probabilities, None)


def _rows_of(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for row in frame.astype(object).where(frame.notna(), None).to_dict("records"):
        yield {str(name): value for name, value in row.items()}


def _read_csv(path: Path, outputs: Outputs) -> Iterator[dict[str, Any]]:
    types = dict(zip(outputs.prediction_columns, outputs.types, strict=True))
    types |= dict.fromkeys(outputs.probability_columns, OutputType.NUMBER)
    reads: dict[OutputType | None, Callable[[str], Any]] = {
        OutputType.NUMBER: orjson.loads,
        OutputType.BOOLEAN: orjson.loads,
        OutputType.TEXT: str,
    }
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            yield {
                name: (None if row["error"] else reads[types[name]](text))
                if name in types
                else text
                for name, text in row.items()
            }


def _read_jsonl(path: Path, _: Outputs) -> Iterator[dict[str, Any]]:
    return map(orjson.loads, path.read_bytes().splitlines())


def _read_parquet(path: Path, _: Outputs) -> Iterator[dict[str, Any]]:
    return iter(pyarrow.parquet.read_table(path).to_pylist())


_READ = {"csv": _read_csv, "jsonl": _read_jsonl, "parquet": _read_parquet}
_WRITE: dict[str, Callable[[pd.DataFrame, Path], Any]] = {
    "csv": lambda frame, path: frame.to_csv(path, index=False),
    "jsonl": lambda frame, path: frame.to_json(
        path, orient="records", lines=True, double_precision=15
    ),
    "parquet": lambda frame, path: frame.to_parquet(path, index=False),
}
