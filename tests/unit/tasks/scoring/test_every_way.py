"""The same record has the same answer through every way in: that of `predict` and `predict_proba` in training."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.model_selection import TunedThresholdClassifierCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC, LinearSVC

from scoreline_client.options import BulkOptions
from scoreline_client.testing import FakeScoreline
from tests.support.models import Predictor
from tests.support.ways import MODEL, Answered, ask_every_way, version_of

# Of scikit-learn's own: SciPy's newer signatures, networks that have not converged.
pytestmark = pytest.mark.filterwarnings("ignore")

GENERATOR = np.random.default_rng(5)
TRAIN = pd.DataFrame(GENERATOR.normal(size=(200, 2)).round(3), columns=["x", "y"])
NEW = pd.DataFrame(GENERATOR.normal(size=(20, 2)).round(3), columns=["x", "y"])
LABELS = np.where(TRAIN["x"] + TRAIN["y"] > 0, "yes", "no")
SEVERAL = pd.DataFrame(
    {
        "side": np.where(TRAIN["x"] > 0, "right", "left"),
        "size": np.where(TRAIN["y"] > 0, "big", "low"),
    }
)
MARKS = np.column_stack([TRAIN["x"] > 0, TRAIN["y"] > 0.3, TRAIN["x"] + TRAIN["y"] > 1]).astype(int)


def _float32() -> Any:
    cast = FunctionTransformer(lambda frame: frame.to_numpy(np.float32))
    return make_pipeline(cast, LinearRegression()).fit(TRAIN, TRAIN["x"].astype(np.float32) / 3)


def _with_rule() -> Any:
    class Rule(LogisticRegression):  # type: ignore[misc]
        def predict(self, frame: pd.DataFrame) -> Any:
            return np.where(frame["x"] > 1, "refer", super().predict(frame))

    return Rule().fit(TRAIN, LABELS)


PIPELINES: dict[str, Callable[[], tuple[Any, Any]]] = {
    "logistic regression": lambda: (LogisticRegression().fit(TRAIN, LABELS), LABELS),
    "labels 0 and 1": lambda: (LogisticRegression().fit(TRAIN, MARKS[:, 0]), MARKS[:, 0]),
    "labels of truth": lambda: (LogisticRegression().fit(TRAIN, MARKS[:, 0] > 0), MARKS[:, 0] > 0),
    "tuned threshold": lambda: (
        TunedThresholdClassifierCV(KNeighborsClassifier(15, weights="distance")).fit(
            TRAIN, MARKS[:, 1]
        ),
        MARKS[:, 1],
    ),
    "SVC with probabilities": lambda: (
        SVC(probability=True, random_state=0).fit(TRAIN, LABELS),
        LABELS,
    ),
    "business rule": lambda: (_with_rule(), LABELS),
    "regression": lambda: (LinearRegression().fit(TRAIN, TRAIN["x"] / 3), None),
    "float32": lambda: (_float32(), None),
    "mixture": lambda: (GaussianMixture(3, random_state=0).fit(TRAIN), None),
    "Bayesian mixture": lambda: (
        BayesianGaussianMixture(n_components=2, random_state=0).fit(TRAIN),
        None,
    ),
    "multi-label, one against the rest": lambda: (
        OneVsRestClassifier(LogisticRegression()).fit(TRAIN, MARKS),
        MARKS,
    ),
    "multi-label, MLP": lambda: (
        MLPClassifier((4,), max_iter=3000, random_state=0).fit(TRAIN, MARKS),
        pd.DataFrame(MARKS, columns=["a", "b", "c"]),
    ),
    "chain": lambda: (ClassifierChain(LogisticRegression()).fit(TRAIN, MARKS), MARKS),
    "several classifiers": lambda: (
        MultiOutputClassifier(LogisticRegression()).fit(TRAIN, SEVERAL),
        SEVERAL,
    ),
    "several outputs of a forest": lambda: (
        RandomForestClassifier(5, random_state=0).fit(TRAIN, MARKS[:, :2]),
        MARKS[:, :2],
    ),
    "several regressions": lambda: (LinearRegression().fit(TRAIN, TRAIN / 3), TRAIN),
    "transformer of one column": lambda: (
        make_pipeline(FunctionTransformer(lambda frame: frame[["x"]] * 2)).fit(TRAIN),
        None,
    ),
    "transformer": lambda: (StandardScaler().fit(TRAIN), None),
    "transformer with columns of several types": lambda: (
        FunctionTransformer(
            lambda frame: pd.DataFrame(
                {
                    "text": np.where(frame["x"] > 0, "007", "1e3"),
                    "whole": (frame["x"] * 10).round().astype(int),
                    "part": frame["y"] / 3,
                    "flag": frame["y"] > 0,
                }
            )
        ),
        None,
    ),
    "text like numbers": lambda: (
        Predictor(
            lambda frame: np.array(["007", "1e3", "nan"])[(frame["x"] * 1000).astype(int) % 3]
        ),
        None,
    ),
    "long whole numbers": lambda: (
        Predictor(lambda frame: (frame["x"] * 1000).astype(np.int64) + 2**62),
        None,
    ),
    "nullable numbers of pandas": lambda: (
        Predictor(lambda frame: (frame["x"] * 1000).astype("Int64")),
        None,
    ),
    "categories of pandas": lambda: (
        Predictor(lambda frame: pd.Categorical(np.where(frame["x"] > 0, "b", "a"))),
        None,
    ),
}


def _expected(pipeline: Any, frame: pd.DataFrame, outputs: Any) -> list[Answered]:
    """What the pipeline itself says, in the shape that callers get."""
    given = getattr(pipeline, outputs.method)(frame)
    values = (
        given.astype(object).to_numpy() if isinstance(given, pd.DataFrame) else np.asarray(given)
    )
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if not hasattr(pipeline, "predict_proba"):
        return [Answered(value, {}, None) for value in values.tolist()]
    shares = pipeline.predict_proba(frame)
    names = [output.name for output in outputs.each]
    if isinstance(shares, list):
        tables = [
            [dict(zip(classes.tolist(), row, strict=True)) for row in table.tolist()]
            for classes, table in zip(pipeline.classes_, shares, strict=True)
        ]
        rows = [dict(zip(names, row, strict=True)) for row in zip(*tables, strict=True)]
    else:
        labels = names if values.ndim == 2 else getattr(pipeline, "classes_", np.arange(9)).tolist()
        rows = [dict(zip(labels, row, strict=False)) for row in shares.tolist()]
    return [Answered(value, row, None) for value, row in zip(values.tolist(), rows, strict=True)]


def _types(answer: Any) -> Any:
    if isinstance(answer, list | tuple):
        return [_types(one) for one in answer]
    if isinstance(answer, dict):
        return {name: _types(one) for name, one in answer.items()}
    return type(answer)


@pytest.mark.parametrize("name", PIPELINES)
def test_every_way_in_answers_as_the_pipeline_does(name: str, tmp_path: Path) -> None:
    pipeline, labels = PIPELINES[name]()
    loaded = version_of(pipeline, TRAIN, labels)
    expected = _expected(pipeline, NEW, loaded.outputs)
    for way, answers in ask_every_way(loaded, NEW, tmp_path).items():
        # Alone and in company, numeric libraries differ by rounding.
        for answer, wanted in zip(answers, expected, strict=True):
            assert _types(answer) == _types(wanted), way
            assert _rounded(answer) == _rounded(wanted), way


def _rounded(answer: Any) -> Any:
    if isinstance(answer, list | tuple):
        return [_rounded(one) for one in answer]
    if isinstance(answer, dict):
        return {name: _rounded(one) for name, one in answer.items()}
    return pytest.approx(answer, rel=1e-6) if isinstance(answer, float) else answer


ODD: dict[str, Any] = {
    "pandas' NA": pd.NA,
    "None": None,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "NaT": pd.NaT,
    "Decimal": Decimal("1.5"),
    "Timestamp": pd.Timestamp("2024-05-01"),
    "datetime64": np.datetime64("2024-05-01"),
    "bytes": b"yes",
    "beyond 64 bits": 2**70,
    "complex": 1j,
    "list": [1, 2],
    "set": {1},
    "half a character": "\ud800",
}
USUAL: dict[str, tuple[Any, Any]] = {
    "text": ("yes", 1),
    "whole numbers": (7, "seven"),
    "fractions": (0.5, "half"),
    "booleans": (True, "true"),
}
"""A usual answer of each type, and one of another type."""


@pytest.mark.parametrize("usual", USUAL)
def test_a_value_that_is_no_answer_costs_its_record_alone(usual: str, tmp_path: Path) -> None:
    good, other = USUAL[usual]
    odd = [*ODD.values(), other]

    def answer(frame: pd.DataFrame) -> Any:
        given = np.empty(len(frame), dtype=object)
        for row, x in enumerate(frame["x"].astype(int)):
            given[row] = odd[-x - 1] if x < 0 else good
        return given

    new = pd.DataFrame({"x": [1.0, *(-1.0 - at for at in range(len(odd))), 2.0]})
    loaded = version_of(Predictor(answer), pd.DataFrame({"x": [1.0, 2.0, 3.0]}))
    for way, answers in ask_every_way(loaded, new, tmp_path).items():
        assert [one.error for one in answers] == [None, *["E_MODEL_OUTPUT"] * len(odd), None], way
        assert [answers[0].value, answers[-1].value] == [good, good], way
        assert {type(answers[0].value), type(answers[-1].value)} == {type(good)}, way


def test_labels_keep_their_type_when_a_neighbour_is_rejected(tmp_path: Path) -> None:
    pipeline = LogisticRegression().fit(TRAIN, MARKS[:, 0])
    new = NEW.copy()
    new.iloc[3, 0] = np.nan
    for way, answers in ask_every_way(version_of(pipeline, TRAIN), new, tmp_path).items():
        assert answers[3].error == "E_NULL", way
        assert {type(one.value) for one in answers if one.error is None} == {int}, way


def test_a_frame_may_begin_with_many_rows_without_an_answer() -> None:
    frame = pd.DataFrame({"x": np.arange(10_000.0) - 2_500})
    answers = Predictor(lambda frame: np.where(frame["x"] < 0, pd.NA, "high").astype(object))
    loaded = version_of(answers, frame.tail(10))
    with FakeScoreline() as scoreline:
        scoreline._worker.serve(loaded)
        found = scoreline.client().predict_frame(MODEL, frame)
    assert found["error"].notna().sum() == 2_500
    assert found["error"].iloc[:2_500].str.startswith("E_MODEL_OUTPUT").all()
    assert (found["prediction"].iloc[2_500:] == "high").all()


def test_one_row_that_raises_costs_a_file_of_text_labels_nothing_else(tmp_path: Path) -> None:
    def refuse_large(frame: pd.DataFrame) -> pd.DataFrame:
        if (frame["x"] > 1e6).any():
            raise ValueError("too large")
        return frame

    labels = pd.Series(LABELS, dtype=object)
    pipeline = make_pipeline(FunctionTransformer(refuse_large), LinearSVC()).fit(TRAIN, labels)
    new = pd.DataFrame(GENERATOR.normal(size=(1000, 2)), columns=["x", "y"])
    expected = pipeline.predict(new)
    new.iloc[500, 0] = 1e7
    loaded = version_of(pipeline, TRAIN, labels)
    for way, answers in ask_every_way(loaded, new, tmp_path, singly=False).items():
        assert answers[500].error == "E_PREDICT", way
        good = [one.value for at, one in enumerate(answers) if at != 500]
        assert good == np.delete(expected, 500).tolist(), way


def test_float32_has_the_same_digits_everywhere(tmp_path: Path) -> None:
    thirds = Predictor(lambda frame: (frame["x"] / 3).astype(np.float32))
    expected = [float(np.float32(x / 3)) for x in NEW["x"]]
    for way, answers in ask_every_way(version_of(thirds, TRAIN), NEW, tmp_path).items():
        assert [one.value for one in answers] == expected, way
    assert (tmp_path / "out.csv").read_text().splitlines()[1].split(",")[2] == repr(expected[0])


TEXTS = Predictor(lambda frame: np.where(frame["x"] > 0, "=1+1", "-a,b;c"))
THIRDS = Predictor(lambda frame: frame["x"] / 3)


@pytest.mark.parametrize("pipeline", [TEXTS, THIRDS], ids=["text", "fractions"])
@pytest.mark.parametrize(
    "options",
    [{"decimal": ",", "delimiter": ";"}, {"decimal": ","}, {"excel_safe": True}],
    ids=["decimal comma", "decimal comma between commas", "for spreadsheets"],
)
def test_rows_of_a_file_have_the_pipelines_own_answers_however_it_is_written(
    pipeline: Predictor, options: dict[str, Any], tmp_path: Path
) -> None:
    source = tmp_path / "in.csv"
    NEW.to_csv(
        source, index=False, decimal=options.get("decimal", "."), sep=options.get("delimiter", ",")
    )
    with FakeScoreline() as scoreline:
        scoreline._worker.serve(version_of(pipeline, TRAIN))
        rows = scoreline.client().score_rows(MODEL, source, options=BulkOptions(**options))
        assert [row.prediction.value for row in rows] == pipeline.predict(NEW).tolist()
