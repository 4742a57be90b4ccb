"""The models that are asked over HTTP: Pima's columns of numbers, and one with text, dates and missing values."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.pipeline import Pipeline

from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_artifacts.schema import Schema
from scoreline_client.fleet import ProcessReport, ServedModel, send_report, withdraw_report
from scoreline_client.protocol.keys import Keys
from scoreline_client.testing import FakeScoreline
from scoreline_training.jobs.pima.training import load_split, make_pipeline

PIMA_ROW = {
    "preg": 6,
    "plas": 148,
    "pres": 72,
    "skin": 35,
    "test": 0,
    "mass": 33.6,
    "pedi": 0.627,
    "age": 50,
}


class Visits:
    """Says `long`, `short` or `unknown` of a visit, by text, a date, a truth value and a number that may be missing."""

    classes_ = np.array(["long", "short", "unknown"], dtype=object)

    def predict(self, frame: pd.DataFrame) -> npt.NDArray[Any]:
        """Return a class for each row."""
        is_long = (frame["since"] < pd.Timestamp("2020-01-01")) & frame["smokes"].astype(bool)
        answer = np.where(is_long | (frame["town"] == "Genève"), "long", "short").astype(object)
        answer[frame["weight"].isna().to_numpy()] = "unknown"
        return answer

    def predict_proba(self, frame: pd.DataFrame) -> npt.NDArray[np.float64]:
        """Return 0.8 for the class, and 0.1 for the others."""
        return np.where(self.predict(frame)[:, None] == self.classes_, 0.8, 0.1)


VISITS = pd.DataFrame(
    {
        "town": ["Bern", "Genève", "Bern", "Zug"],
        "since": pd.to_datetime(["2019-05-01", "2021-07-01", "2022-01-01", "2018-01-01"]),
        "smokes": [True, False, False, True],
        "weight": [70.5, 80.25, np.nan, 64.0],
        "visits": [1, 2, 3, 4],
    }
)
VISITS_CLASSES = ["long", "long", "unknown", "long"]


def serve_models(scoreline: FakeScoreline) -> Pipeline:
    """Let a fake serve both; returns Pima's pipeline."""
    split = load_split()
    pima = make_pipeline().fit(split.X_train, split.y_train)
    for pipeline, name, columns in ((pima, "pima", split.X_train), (Visits(), "visits", VISITS)):
        schema = Schema.infer(columns)
        scoreline._worker.serve(LoadedVersion.of(pipeline, name, 3, schema))
    return pima


def report_as_worker(scoreline: FakeScoreline, models: Mapping[str, ServedModel]) -> None:
    """Let a fake have a process that reports these models; without any, let it be gone."""
    redis, keys = scoreline._server.client(), Keys("default")
    now = time.time()
    report = ProcessReport(
        name="celery@here/1",
        host="here",
        pid=1,
        started_at=now,
        reported_at=now,
        models=dict(models),
    )
    if models:
        send_report(redis, keys, report)
    else:
        withdraw_report(redis, keys, report.name)
