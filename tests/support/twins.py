"""The same calls of two clients, to hold what both get against each other: a fake and the service, for one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from scoreline_client import (
    BulkOptions,
    Client,
    JobStatus,
    Policy,
    RequestOptions,
    ScorelineError,
)

ROWS = 120
_NUMBERS = np.arange(ROWS)
FRAME = pd.DataFrame(
    {
        "id": [f"row {number}" for number in _NUMBERS],
        "income": np.where(_NUMBERS % 10, 900.0 + 13 * _NUMBERS, np.nan),
        "visits": _NUMBERS % 5,
        "city": np.where(_NUMBERS % 3, "Bonn", "Kiel"),
        "is_member": _NUMBERS % 2 == 0,
        "plan": pd.Categorical(np.where(_NUMBERS % 4, "basic", "gold")),
        "since": pd.Timestamp("2024-01-31") + pd.to_timedelta(_NUMBERS, unit="D"),
    }
)
LABELS = np.where(_NUMBERS % 7 < 3, "stays", "leaves")
TARGETS = pd.DataFrame({"spent": 2.0 * _NUMBERS, "saved": 5.0 - _NUMBERS})
GOOD: dict[str, Any] = {
    "income": 1200.0,
    "visits": 3,
    "city": "Bonn",
    "is_member": True,
    "plan": "gold",
    "since": "2024-02-03",
}


def days(frame: pd.DataFrame) -> Any:
    """Days since the beginning of 2024, (rows, 1)."""
    return ((frame - pd.Timestamp("2024-01-01")) / pd.Timedelta("1D")).to_numpy()


def _columns() -> Any:
    return make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), ["income", "visits"]),
        (OneHotEncoder(handle_unknown="ignore"), ["city", "plan"]),
        (FunctionTransformer(np.asarray), ["is_member"]),
        (FunctionTransformer(days), ["since"]),
    )


def classifier() -> Pipeline:
    """Of columns of each type, and one that it does not use, with probabilities of two classes."""
    return make_pipeline(_columns(), LogisticRegression(solver="liblinear")).fit(FRAME, LABELS)


def regressor() -> Pipeline:
    """Of the same columns, with two outputs."""
    return make_pipeline(_columns(), LinearRegression()).fit(FRAME, TARGETS)


def _one(record: Any, model: str = "stay", **options: Any) -> Callable[[Client, Path], Any]:
    asked = RequestOptions(**options)
    return lambda client, _: client.predict(model, record, options=asked, timeout=30)


def _without(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != name}


def _frame(change: Callable[[pd.DataFrame], pd.DataFrame], model: str = "stay") -> Any:
    return lambda client, _: client.predict_frame(model, change(FRAME.head(7)), timeout=30)


def _job(client: Client, _: Path) -> Any:
    job = client.submit("stay", [GOOD, GOOD | {"visits": 2.5}])
    return job.result(timeout=30), job.status() is JobStatus.DONE


def _file(suffix: str, **options: Any) -> Callable[[Client, Path], Any]:
    def score(client: Client, folder: Path) -> Any:
        source, target = folder / f"in{suffix}", folder / f"out{suffix}"
        odd = FRAME.head(9).assign(income=["12,5", "", *map(str, range(7))])[::-1].iloc[:, ::-1]
        if suffix == ".csv":
            odd.to_csv(source, index=False)
        elif suffix == ".jsonl":
            odd.to_json(source, orient="records", lines=True, date_format="iso")
        else:
            FRAME.to_parquet(source)
        summary = client.score_file("stay", source, target, options=BulkOptions(**options))
        text = pd.read_parquet(target) if suffix == ".parquet" else target.read_bytes()
        return text, summary.rows, summary.rejected

    return score


CALLS: dict[str, Callable[[Client, Path], Any]] = {
    "a good record": _one(GOOD),
    "columns in another order": _one(dict(reversed(GOOD.items()))),
    "a column too many": _one(GOOD | {"colour": "red", "id": 3}),
    "a missing column": _one(_without("income")),
    "a near miss of a column": _one(_without("income") | {"Income": 3.0}),
    "text for a number": _one(GOOD | {"income": "much"}),
    "a number for text": _one(GOOD | {"city": 3}),
    "a fraction for a whole number": _one(GOOD | {"visits": 2.5}),
    "a number for a boolean": _one(GOOD | {"is_member": 1}),
    "an unknown category": _one(GOOD | {"plan": "golden"}),
    "an unknown text": _one(GOOD | {"city": "Ulm"}, unseen=Policy.WARN),
    "a number out of range": _one(GOOD | {"income": 1e6}, out_of_range=Policy.ERROR),
    "text as numbers": _one(GOOD | {"income": "1200.5"}, coerce=True),
    "a missing value where some were missing": _one(GOOD | {"income": None}),
    "a missing value where none was": _one(GOOD | {"visits": None}),
    "no date": _one(GOOD | {"since": "yesterday"}),
    "a date": _one(GOOD | {"since": datetime(2024, 2, 3, 4)}),
    "a missing date": _one(GOOD | {"since": None}),
    "NaN": _one(GOOD | {"income": float("nan")}),
    "infinity": _one(GOOD | {"income": float("inf")}),
    "no record": _one(["x"]),
    "several outputs": _one(GOOD, "money"),
    "another version": _one(GOOD, "money@1"),
    "an alias": _one(GOOD, "money@candidate"),
    "an alias that is not there": _one(GOOD, "money@nobody"),
    "a version that is not there": _one(GOOD, "money@9"),
    "many records": lambda client, _: client.predict_many(
        "stay", [GOOD, GOOD | {"city": None}, _without("plan"), GOOD], timeout=30
    ),
    "a job": _job,
    "a frame": _frame(lambda frame: frame),
    "a frame in another order": _frame(lambda frame: frame[list(reversed(frame.columns))]),
    "a frame without a column": _frame(lambda frame: frame.drop(columns="city")),
    "a frame without an unused column": _frame(lambda frame: frame.drop(columns="id")),
    "a frame of text": _frame(lambda frame: frame.assign(income=["x", *["1"] * 6])),
    "a frame for several outputs": _frame(lambda frame: frame, "money"),
    "CSV": _file(".csv"),
    "CSV, some columns": _file(".csv", keep=("id",)),
    "JSON Lines": _file(".jsonl"),
    "Parquet": _file(".parquet"),
}
"""Calls by what is asked, each with a client and a folder of its own."""


_WORDS_OF_A_WORKER = "is not released in the artifact store that the workers read"


def outcome(
    call: Callable[[Client, Path], Any], client: Client, folder: Path, attempts: int = 20
) -> Any:
    """What comes of a call, so that two outcomes can be compared: its answer, or its error in full."""
    folder.mkdir()
    try:
        return _plain(call(client, folder))
    except ScorelineError as error:
        if attempts > 1 and _WORDS_OF_A_WORKER in str(error):
            # A client has a quarter of a second for its own words, which a busy machine may not give it.
            folder.rmdir()
            return outcome(call, client, folder, attempts - 1)
        facts = {name: getattr(error, name, None) for name in ("code", "column", "value")}
        # A fake has no artifact store that a message could name.
        told = str(error).partition(". Workers serve what was promoted in")[0]
        return type(error), told.replace(str(folder), "FOLDER"), facts


def _plain(answer: Any) -> Any:
    if isinstance(answer, pd.DataFrame):
        return answer.to_json(double_precision=9, date_format="iso"), answer.dtypes.astype(
            str
        ).to_dict()
    if isinstance(answer, list | tuple):
        return [_plain(each) for each in answer]
    if hasattr(answer, "probabilities") and answer.error is None:
        rounded = {name: round(share, 9) for name, share in answer.probabilities.items()}
        value = (
            np.round(answer.value, 9).tolist() if isinstance(answer.value, list) else answer.value
        )
        return value, type(answer.value), rounded, answer.version, answer.warnings
    return answer
