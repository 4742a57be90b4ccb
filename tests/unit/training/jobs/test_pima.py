"""The Pima job: the published coefficients, the split, the search and the figures it prints."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import psutil
import pytest
from rich.console import Console
from sklearn.linear_model import LogisticRegression

from scoreline_training.jobs.pima.features import is_at_least
from scoreline_training.jobs.pima.training import (
    FEATURES,
    BinaryMetrics,
    Trained,
    load_split,
    train,
)

PUBLISHED = {
    "log1p(mass)": -1.8433,
    "preg": 0.06489,
    "plas": 0.02991,
    "pres": -0.01433,
    "skin": -0.003564,
    "test": -3.919e-4,
    "mass": 0.1633,
    "pedi": 0.1637,
    "age": 0.02584,
}


@pytest.fixture(scope="module")
def trained() -> Trained:
    return train()


def test_the_coefficients_are_the_published_ones() -> None:
    split = load_split()
    features = pd.concat(
        [np.log1p(split.X_train["mass"]).rename("log1p(mass)"), split.X_train], axis=1
    )
    # L2 with C=1, scikit-learn's default, is the regularisation that reproduces them.
    model = LogisticRegression(solver="liblinear", C=1.0).fit(features, split.y_train)
    found = dict(zip(features.columns, model.coef_[0].tolist(), strict=True))
    assert found == pytest.approx(PUBLISHED, rel=0.05)


def test_a_third_of_the_data_is_held_out() -> None:
    split = load_split()
    assert (len(split.X_train), len(split.X_test)) == (514, 254)
    assert list(split.X_train.columns) == FEATURES
    assert int(split.y_train.sum() + split.y_test.sum()) == 268


def test_training_is_the_same_every_time(trained: Trained) -> None:
    again = train()
    assert again.metrics == trained.metrics
    np.testing.assert_array_equal(
        again.pipeline.predict_proba(trained.split.X_test),
        trained.pipeline.predict_proba(trained.split.X_test),
    )


def test_the_pipeline_is_better_than_always_saying_no(trained: Trained) -> None:
    assert trained.metrics.accuracy > (trained.split.y_test == 0).mean()
    assert trained.metrics.roc_auc > 0.75


def test_another_strength_gives_clearly_other_probabilities(trained: Trained) -> None:
    other = train((0.001,)).pipeline.predict_proba(trained.split.X_test)
    assert np.abs(other - trained.pipeline.predict_proba(trained.split.X_test)).mean() > 0.05


def test_the_search_tries_only_what_it_is_told(trained: Trained) -> None:
    assert train((0.05,)).parameters["model__C"] == 0.05


def test_a_feature_keeps_the_shape_of_its_input() -> None:
    senior = partial(is_at_least, years=50)
    assert senior([[49], [50], [51]]).tolist() == [[0.0], [1.0], [1.0]]


def test_metrics_count_what_was_predicted_as_what() -> None:
    metrics = BinaryMetrics.measure(
        _Known(), pd.DataFrame({"p": [0.1, 0.9, 0.8, 0.2]}), [0, 1, 0, 1]
    )
    assert metrics.to_json() == {
        "rows": 4,
        "accuracy": 0.5,
        "roc_auc": 0.75,
        "confusion_matrix": [[1, 1], [1, 1]],
        "classes": [0, 1],
    }


def test_metrics_print_their_figures_and_the_matrix(trained: Trained) -> None:
    console = Console(width=80, no_color=True)
    with console.capture() as capture:
        console.print(trained.metrics)
    text = capture.get()
    assert f"{trained.metrics.accuracy:.4f}" in text
    assert "predicted 1" in text
    assert str(trained.metrics.confusion_matrix[1][1]) in text


class _Known:
    """Takes column p as the probability of class 1."""

    classes_ = np.array([0, 1])

    def predict_proba(self, frame: pd.DataFrame) -> np.ndarray:
        return np.column_stack([1 - frame["p"], frame["p"]])

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        return (frame["p"] > 0.5).astype(int).to_numpy()


def test_training_stops_the_processes_that_it_started() -> None:
    train((1.0,))
    children = psutil.Process().children(recursive=True)
    assert [one for one in children if "LokyProcess" in " ".join(one.cmdline())] == []
