"""A proof tries what a file may get wrong, and believes no file that does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_artifacts.schema import Schema
from scoreline_training.export.formats import Scored
from scoreline_training.export.proof import NotProven, Parity, prove
from scoreline_training.export.rows import proving_records
from tests.unit.training.export.written import plan_of

pytestmark = pytest.mark.filterwarnings("ignore")
_COUNT = 300
_NUMBERS = np.random.default_rng(0).normal(size=(_COUNT, 2))


def _prove(pipeline: Any, frame: pd.DataFrame, file: Any) -> Parity:
    """Prove a program that answers with `file`, a function of the frame, in the pipeline's place."""
    schema = Schema.infer(frame)
    version = LoadedVersion.of(pipeline, "example", 1, schema)
    records: list[dict[str, Any]] = frame.head(4).to_dict("records")
    return prove(
        "example@1", version, plan_of(pipeline, schema), file, records, tolerance=1e-9, rows=50
    )


def test_a_small_output_is_not_measured_by_large_ones() -> None:
    frame = pd.DataFrame(_NUMBERS, columns=["a", "b"])
    line = LinearRegression().fit(frame, _NUMBERS[:, [0, 1, 1]] * [1e-6, 1e12, 1e12])

    def half_wrong(asked: pd.DataFrame) -> Scored:
        return Scored((line.predict(asked) * [2, 1, 1]).tolist())

    with pytest.raises(NotProven, match="a number differs"):
        _prove(line, frame, half_wrong)


def test_classes_that_no_row_is_of_are_compared() -> None:
    frame = pd.DataFrame(_NUMBERS, columns=["a", "b"])
    labels = np.where(np.arange(_COUNT) == 0, "rare", np.where(_NUMBERS[:, 0] > 0, "up", "down"))
    model = LogisticRegression(C=0.01).fit(frame, labels)

    def misnamed(asked: pd.DataFrame) -> Scored:
        return Scored(
            model.predict(asked).tolist(), model.predict_proba(asked), ("down", "other", "up")
        )

    assert "rare" not in model.predict(frame * 9)
    with pytest.raises(NotProven, match="its classes are"):
        _prove(model, frame, misnamed)


@pytest.mark.parametrize("encoder", [OneHotEncoder(), OrdinalEncoder()], ids=["one-hot", "places"])
@pytest.mark.parametrize("kind", ["text", "number"])
def test_every_category_of_an_encoder_is_tried(encoder: Any, kind: str) -> None:
    """Also of a column whose schema has no categories: numbers, and texts of which there are many."""
    codes = np.resize(np.arange(10_000, 99_999, 400), _COUNT)
    values = pd.Series(codes if kind == "number" else [f"town {code}" for code in codes])
    frame = pd.DataFrame({"town": values, "a": _NUMBERS[:, 0]})
    pipeline = make_pipeline(
        ColumnTransformer([("town", encoder, ["town"]), ("a", "passthrough", ["a"])]),
        LinearRegression(),
    ).fit(frame, _NUMBERS[:, 1])
    schema = Schema.infer(frame)
    assert schema.columns[0].categories is None
    records = proving_records(schema, plan_of(pipeline, schema), [], count=20)
    known = set(values.tolist())
    assert known <= {record["town"] for record in records}
    # A row with another one is refused by the pipeline, and proves nothing.
    assert {record["town"] for record in records[:20]} <= known
