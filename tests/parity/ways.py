"""Every way in: the same rows as records, as a frame and as files, and what comes back as Python's values."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from scoreline_client import Client, Prediction, RecordRejected
from tests.parity.truth import Expected, Got, Truth

TIMEOUT_S = 30.0


UNNEEDED: list[Any] = [1, "text", None, {1, 2}, b"bytes", [3], Decimal("1.5"), 2**80, object()]
"""Values of a column that no pipeline needs."""


@dataclass(frozen=True)
class Asked:
    """The rows of a case, with bad ones among them, as the ways in take them."""

    model: str
    records: list[dict[str, Any]]
    expected: list[Expected]
    """For each record."""
    frame: pd.DataFrame
    """Only rows that a frame with the types of training can hold."""
    expected_of_frame: list[Expected]
    as_stored: dict[str, str]
    columns: list[str]
    """Those that files have."""

    @classmethod
    def of(cls, truth: Truth) -> Asked:
        """The rows of a case; a bad row stands before every third good one, unless that changes their answers."""
        frame = truth.rows.copy()
        for name, kind in truth.as_stored.items():
            if kind == "date32":
                frame[name] = frame[name].dt.date
            else:
                frame[name] = frame[name].map(lambda one: Decimal(f"{one:.2f}"))
        if truth.unneeded:
            anything = [UNNEEDED[row % len(UNNEEDED)] for row in range(len(frame))]
            frame["unneeded"] = pd.Series(anything, dtype=object)
        records = frame.to_dict("records")
        expected = list(truth.expected)
        bad = [
            (
                {**records[0], column: value},
                Expected(errors=frozenset({code})) if code else truth.expected[0],
            )
            for column, value, code in (() if truth.depends_on_company else truth.bad)
        ]
        for number, (record, outcome) in enumerate(bad):
            records.insert(4 * number, record)
            expected.insert(4 * number, outcome)
        return cls(
            model=truth.name,
            records=records,
            expected=expected,
            frame=frame,
            expected_of_frame=truth.expected,
            as_stored=truth.as_stored,
            columns=list(truth.rows.columns),
        )


Way = Callable[[Client, Asked, Path], list[Got]]


def _got(prediction: Prediction) -> Got:
    if prediction.error is not None:
        return Got(error=str(prediction.error.code))
    return Got(value=prediction.value, probabilities=prediction.probabilities)


def _alone(client: Client, model: str, record: Mapping[str, Any]) -> Got:
    try:
        return _got(client.predict(model, record, timeout=TIMEOUT_S))
    except RecordRejected as error:
        return Got(error=str(error.code))


def predict(client: Client, asked: Asked, _: Path) -> list[Got]:
    """One record after the other."""
    return [_alone(client, asked.model, record) for record in asked.records]


def predict_together(client: Client, asked: Asked, _: Path) -> list[Got]:
    """All of them at the same moment, from as many threads: they share requests."""
    with ThreadPoolExecutor(len(asked.records)) as pool:
        return list(pool.map(lambda record: _alone(client, asked.model, record), asked.records))


def predict_many(client: Client, asked: Asked, _: Path) -> list[Got]:
    """All in one request."""
    return [*map(_got, client.predict_many(asked.model, asked.records, timeout=TIMEOUT_S))]


def submit(client: Client, asked: Asked, _: Path) -> list[Got]:
    """As a job."""
    return [*map(_got, client.submit(asked.model, asked.records).result(timeout=TIMEOUT_S))]


def predict_frame(client: Client, asked: Asked, _: Path) -> list[Got]:
    """As a frame."""
    answers = client.predict_frame(asked.model, asked.frame, timeout=TIMEOUT_S)
    assert answers.index.equals(asked.frame.index)
    columns = [list(answers.iloc[:, place]) for place in range(answers.shape[1])]
    rows = zip(*columns, strict=True)
    return [_of_columns(dict(zip(answers.columns, row, strict=True))) for row in rows]


def _of_columns(row: Mapping[str, Any], *, is_text: bool = False) -> Got:
    """A row of the answers' columns."""
    error = row["error"]
    if isinstance(error, str) and error:
        return Got(error=error.partition(":")[0])
    values = [_python(one) for name, one in row.items() if name.split("_")[0] == "prediction"]
    shares = [one for name, one in row.items() if name.startswith("probability_")]
    value = values[0] if len(values) == 1 else values
    return Got(value=value, probabilities=shares, is_text=is_text)


def _python(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    return value.tolist() if isinstance(value, np.ndarray) else value


def _written(asked: Asked, folder: Path, kind: str) -> Path:
    """The rows as a file of a format, as pandas or a service would write it."""
    path = folder / f"{asked.model}.{kind}"
    if kind == "parquet":
        table = pa.Table.from_pandas(asked.frame[asked.columns], preserve_index=False)
        for name, stored in asked.as_stored.items():
            written = pa.date32() if stored == "date32" else pa.decimal128(12, 2)
            place = table.column_names.index(name)
            table = table.set_column(place, name, table.column(name).cast(written))
        pq.write_table(table, path)
    elif kind == "csv":
        records = pd.DataFrame(asked.records, columns=asked.columns, dtype=object)
        records.to_csv(path, index=False)
    else:
        lines = (
            json.dumps({name: _as_json(row[name]) for name in asked.columns})
            for row in asked.records
        )
        path.write_text("".join(f"{line}\n" for line in lines))
    return path


def _as_json(value: Any) -> Any:
    if value is pd.NA or value is pd.NaT or value is None or value != value:
        return None
    if isinstance(value, pd.Timestamp | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, float) and abs(value) == float("inf"):
        return "Infinity" if value > 0 else "-Infinity"
    return _python(value)


def score_csv(client: Client, asked: Asked, folder: Path) -> list[Got]:
    """CSV to CSV."""
    target = _score(client, asked, folder, "csv")
    with target.open(newline="") as file:
        header, *rows = csv.reader(file)
    at = len(asked.columns)
    return [
        _of_columns(dict(zip(header[at:], row[at:], strict=True)), is_text=True) for row in rows
    ]


def score_jsonl(client: Client, asked: Asked, folder: Path) -> list[Got]:
    """JSON Lines to JSON Lines."""
    lines = _score(client, asked, folder, "jsonl").read_text().splitlines()
    return [_of_columns(_answers_in(json.loads(line), asked)) for line in lines]


def score_parquet(client: Client, asked: Asked, folder: Path) -> list[Got]:
    """Parquet to Parquet."""
    rows = pq.read_table(_score(client, asked, folder, "parquet")).to_pylist()
    return [_of_columns(_answers_in(row, asked)) for row in rows]


def _answers_in(row: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    return {name: one for name, one in row.items() if name not in asked.columns}


def _score(client: Client, asked: Asked, folder: Path, kind: str) -> Path:
    source = _written(asked, folder, kind)
    target = source.with_name(f"scored.{source.name}")
    client.score_file(asked.model, source, target)
    return target


def _rows_of(kind: str) -> Way:
    def score_rows(client: Client, asked: Asked, folder: Path) -> list[Got]:
        source = _written(asked, folder, kind)
        return [_got(row.prediction) for row in client.score_rows(asked.model, source)]

    return score_rows


WAYS: dict[str, Way] = {
    "predict": predict,
    "predict, at once": predict_together,
    "predict_many": predict_many,
    "submit": submit,
    "predict_frame": predict_frame,
    "CSV": score_csv,
    "JSON Lines": score_jsonl,
    "Parquet": score_parquet,
    "score_rows, CSV": _rows_of("csv"),
    "score_rows, JSON Lines": _rows_of("jsonl"),
    "score_rows, Parquet": _rows_of("parquet"),
}
ALONE = ("predict", "predict, at once")
"""Ways in which a record has no company, or none that it may depend on."""
IN_FRAMES = ("predict_frame", "Parquet", "score_rows, Parquet")
"""Ways for rows that have the types of training."""


def expected_by(way: str, asked: Asked, truth: Truth) -> list[Expected]:
    """What a way in must answer. In CSV, an empty text where training had none is a missing value."""
    if truth.depends_on_company and way not in ALONE:
        return truth.together
    expected = asked.expected_of_frame if way in IN_FRAMES else asked.expected
    if "CSV" in way:
        unlike = {
            name
            for name, column in truth.rows.items()
            if column.dtype == "str" and name not in truth.with_empty_text
        }
        return [
            replace(one, or_errors=one.or_errors | {"E_NULL"})
            if any(record[name] == "" for name in unlike)
            else one
            for one, record in zip(expected, asked.records, strict=True)
        ]
    return expected
