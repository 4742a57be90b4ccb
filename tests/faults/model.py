"""The model of the faults: answers x + its shift, takes some milliseconds a call, and has traps."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from scoreline_artifacts import Store, golden
from scoreline_artifacts.loading.artifact import load
from scoreline_artifacts.manifest import GOLDEN, PIPELINE
from scoreline_artifacts.packaging import pickling
from scoreline_artifacts.store.store import describe_file
from scoreline_training import publish
from tests.faults.load import MODEL

PROJECT = Path(__file__).parent / "project"


def frame_of(xs: Sequence[float], trap: float = 0.0) -> pd.DataFrame:
    """A row for each number."""
    return pd.DataFrame({"x": np.asarray(xs, float), "trap": trap})


def publish_version(store: Store) -> int:
    """Publish the next version, which answers x + its number.

    The first one is made by publish(). The others are that version with another pipeline and its golden
    rows: proofs and reports of twenty releases in ten seconds are not what is tested.
    """
    if str(PROJECT) not in sys.path:
        sys.path.insert(0, str(PROJECT))
    from traps import spring

    number = len(store.versions(MODEL)) + 1
    frame = frame_of(range(50))
    pipeline = make_pipeline(FunctionTransformer(spring), LinearRegression())
    pipeline.fit(frame, frame["x"] + number)
    if number == 1:
        return publish(pipeline, MODEL, frame, store=store, promote=False).version
    like = store.manifest(MODEL, 1)
    records = [row.record for row in golden.decode(store.read(like, GOLDEN))]
    answers = pipeline.predict(pd.DataFrame(records))
    files = store.read_all(like) | {
        PIPELINE: pickling.dump(pipeline).data,
        GOLDEN: golden.encode(golden.rows_of(records, answers, None)),
    }
    described = {name: describe_file(data) for name, data in files.items()}
    return store.publish(replace(like, files=described), files).version


def offline(store: Store) -> Callable[[int, Sequence[float]], npt.NDArray[Any]]:
    """What a version answers without any queue, for many rows in one call."""
    loaded: dict[int, Any] = {}

    def answer(version: int, xs: Sequence[float]) -> npt.NDArray[Any]:
        if version not in loaded:
            loaded[version] = load(store, MODEL, version)
        return np.asarray(loaded[version].score(frame_of(xs)).values)

    return answer
