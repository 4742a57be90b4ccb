"""The metrics in a training report, their intervals, importance, distributions, and numbers as text."""

from __future__ import annotations

import math
from itertools import chain, repeat
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics
from sklearn.linear_model import LinearRegression

from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_training.report.figures import errors, figure, number
from scoreline_training.report.metrics import (
    METRICS,
    SCORING_BUDGET_S,
    SHUFFLING_BUDGET_S,
    Answers,
    Kind,
    Measure,
    NotMeasurable,
    Rows,
    ask,
    importance,
    interval_of_share,
    measure,
    measured_rows,
)
from scoreline_training.report.sections import distribution, trend

GENERATOR = np.random.default_rng(0)


def _binary(truth: list[int], probability: list[float]) -> Answers:
    one = np.array(probability)
    return Answers(
        kind=Kind.BINARY,
        values=np.where(one > 0.5, "1", "0"),
        classes=[0, 1],
        probabilities=np.column_stack([1 - one, one]),
        scores=one,
    )


def _by_name(truth: Any, answers: Answers) -> dict[str, Measure]:
    return {one.name: one for one in measure(np.asarray(truth), answers)}


# Measures


def test_figures_of_a_binary_classifier_are_scikit_learns() -> None:
    truth = GENERATOR.integers(0, 2, 300)
    probability = np.clip(truth * 0.3 + GENERATOR.random(300) * 0.7, 0, 1).round(2)
    found = _by_name(truth, _binary(truth.tolist(), probability.tolist()))
    said = (probability > 0.5).astype(int)
    expected = {
        "ROC AUC": metrics.roc_auc_score(truth, probability),
        "Average precision": metrics.average_precision_score(truth, probability),
        "Accuracy": metrics.accuracy_score(truth, said),
        "Balanced accuracy": metrics.balanced_accuracy_score(truth, said),
        "Precision of 1": metrics.precision_score(truth, said),
        "Recall of 1": metrics.recall_score(truth, said),
        "F1 of 1": metrics.f1_score(truth, said),
        "Log loss": metrics.log_loss(truth, np.clip(probability, 1e-15, 1 - 1e-15)),
        "Brier score": metrics.brier_score_loss(truth, probability),
    }
    assert {name: one.value for name, one in found.items()} == pytest.approx(expected)


def test_figures_of_a_regressor_are_scikit_learns() -> None:
    truth, values = GENERATOR.normal(size=200), GENERATOR.normal(size=200)
    found = _by_name(truth, Answers(kind=Kind.REGRESSION, values=values))
    expected = {
        "R²": metrics.r2_score(truth, values),
        "RMSE": metrics.root_mean_squared_error(truth, values),
        "Mean absolute error": metrics.mean_absolute_error(truth, values),
        "Median absolute error": metrics.median_absolute_error(truth, values),
        "Largest error": metrics.max_error(truth, values),
    }
    assert {name: one.value for name, one in found.items()} == pytest.approx(expected)


def test_the_simplest_answer_stands_beside_a_figure() -> None:
    found = _by_name([0, 0, 0, 1], _binary([0, 0, 0, 1], [0.1, 0.2, 0.3, 0.9]))
    assert found["Accuracy"].simplest == 0.75
    assert found["ROC AUC"].simplest == 0.5
    assert found["Average precision"].simplest == 0.25
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert found["Log loss"].simplest == pytest.approx(entropy)


@pytest.mark.parametrize("truth", [[math.nan, 1.0], [math.inf, 1.0]])
def test_a_regressor_is_not_measured_with_values_that_are_not_finite(truth: list[float]) -> None:
    with pytest.raises(NotMeasurable, match="not finite"):
        _by_name(truth, Answers(kind=Kind.REGRESSION, values=np.array([1.0, 2.0])))


def test_wilsons_interval_is_that_of_the_literature() -> None:
    five_of_ten = np.array([True] * 5 + [False] * 5)
    assert interval_of_share(five_of_ten) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    none_of_ten = np.zeros(10, dtype=bool)
    assert interval_of_share(none_of_ten) == pytest.approx((0.0, 0.2775), abs=1e-4)


def test_the_interval_of_an_area_is_that_of_hanley_and_mcneil() -> None:
    # For an area of 0.893 with 51 and 58 cases their standard error is 0.032.
    scores = np.concatenate([np.full(51, 1.0), np.linspace(0, 1, 58)])
    scores[51 + 58 - 6 :] = 2.0
    truth = [1] * 51 + [0] * 58
    found = _by_name(truth, _binary(truth, scores.tolist()))["ROC AUC"]
    low, high = found.interval or (0, 0)
    assert found.value == pytest.approx(0.893, abs=0.005)
    assert (high - low) / 2 / 1.96 == pytest.approx(0.032, abs=0.002)


@pytest.mark.parametrize("hits", [0, 1, 30, 59, 60])
def test_an_interval_of_a_share_holds_it_and_stays_within_0_and_1(hits: int) -> None:
    low, high = interval_of_share(np.arange(60) < hits)
    assert 0 <= low <= hits / 60 <= high <= 1


def test_figures_lie_in_their_intervals() -> None:
    truth = GENERATOR.integers(0, 2, 100)
    answers = _binary(truth.tolist(), GENERATOR.random(100).tolist())
    numbers = Answers(kind=Kind.REGRESSION, values=GENERATOR.normal(size=100))
    found = _by_name(truth, answers) | _by_name(GENERATOR.normal(size=100), numbers)
    known = {name: one for name, one in found.items() if one.interval is not None}
    assert {"Accuracy", "Mean absolute error", "Precision of 1", "ROC AUC", "Log loss"} <= set(
        known
    )
    assert all(
        one.interval and one.interval[0] < one.value < one.interval[1] for one in known.values()
    )


@pytest.mark.parametrize(
    ("now", "before", "interval", "more_is_better", "verdict"),
    [
        (0.80, 0.70, (0.75, 0.85), True, "better"),
        (0.80, 0.70, (0.75, 0.85), False, "worse"),
        (0.80, 0.76, (0.75, 0.85), True, "within error"),
        (0.80, 0.76, None, True, ""),
        (0.80, 0.8001, (0.75, 0.85), True, "the same"),
    ],
)
def test_a_difference_within_the_interval_is_called_neither_better_nor_worse(
    now: float, before: float, interval: Any, more_is_better: bool, verdict: str
) -> None:
    metric = METRICS[Kind.REGRESSION][0]._replace(more_is_better=more_is_better)
    one = Measure("f", now, metric, interval=interval)
    assert trend(one, Measure("f", before, metric))[1] == verdict


# Kinds


@pytest.mark.parametrize(
    ("answer", "truth", "kind"),
    [
        (["a", "b"], None, Kind.BINARY),
        (["a", "b"], ["a", "c"], Kind.MULTICLASS),
        ([1, 2], None, Kind.REGRESSION),
        ([1.5, 2.5], [1, 2], Kind.REGRESSION),
        ([True, False], None, Kind.BINARY),
        ([[1, 2], [3, 4]], None, Kind.OTHER),
    ],
)
def test_answers_tell_what_a_pipeline_is_that_does_not_say(
    answer: list[Any], truth: list[Any] | None, kind: Kind
) -> None:
    class Silent:
        def predict(self, frame: pd.DataFrame) -> Any:
            return np.array(answer)

    known = None if truth is None else np.array(truth)
    assert ask(LoadedVersion.of(Silent(), "m"), pd.DataFrame({"x": [1, 2]}), known).kind is kind


# Rows and importance


def _rows(frame: pd.DataFrame, truth: Any = None) -> Rows:
    known = None if truth is None else np.asarray(truth)
    return Rows(frame=frame, truth=known, held_out=True, of=len(frame))


def test_the_column_that_matters_comes_first_and_another_costs_nothing() -> None:
    frame = pd.DataFrame({"noise": GENERATOR.normal(size=80), "signal": GENERATOR.normal(size=80)})
    target = frame["signal"] * 2
    before = frame.copy()
    version = LoadedVersion.of(LinearRegression().fit(frame, target), "m")
    costs, unit = importance(version, _rows(frame, target), METRICS[Kind.REGRESSION][0])
    assert list(costs.index) == ["signal", "noise"]
    assert unit == "drop of R²"
    assert costs["signal"] > 1
    assert costs["noise"] == pytest.approx(0, abs=1e-9)
    pd.testing.assert_frame_equal(frame, before)


def test_a_loss_that_rises_is_a_cost() -> None:
    frame = pd.DataFrame({"signal": GENERATOR.normal(size=80)})
    version = LoadedVersion.of(LinearRegression().fit(frame, frame["signal"]), "m")
    costs, unit = importance(version, _rows(frame, frame["signal"]), METRICS[Kind.REGRESSION][1])
    assert unit == "rise of RMSE"
    assert costs["signal"] > 1


def test_a_time_budget_cuts_the_columns_that_are_shuffled() -> None:
    frame = pd.DataFrame(GENERATOR.normal(size=(20, 3)), columns=list("abc"))
    version = LoadedVersion.of(LinearRegression().fit(frame, frame["a"]), "m")
    clock = chain([0.0, 0.0, 0.0], repeat(2 * SHUFFLING_BUDGET_S))
    costs, _ = importance(version, _rows(frame), None, lambda: next(clock))
    assert set(costs.index) == {"a", "b"}


def test_without_labels_it_is_measured_how_far_the_answers_move() -> None:
    frame = pd.DataFrame({"x": np.arange(200.0), "unused": np.arange(200.0) % 7})
    target = frame["x"]
    pipeline = LinearRegression().fit(frame.assign(unused=0.0), target)
    costs, unit = importance(LoadedVersion.of(pipeline, "m"), _rows(frame), None)
    assert unit == "mean change, in standard deviations"
    # The difference of two independent draws from a uniform distribution is 2/sqrt(3) deviations on average.
    assert costs["x"] == pytest.approx(2 / 3**0.5, abs=0.25)
    assert costs["unused"] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("seconds", "rows"),
    [(0.2 * SCORING_BUDGET_S, 1000), (0.001, 5000)],
    ids=["slow", "quick"],
)
def test_a_slow_pipeline_is_measured_on_fewer_rows(seconds: float, rows: int) -> None:
    frame = pd.DataFrame({"x": np.arange(5000.0)})
    version = LoadedVersion.of(LinearRegression().fit(frame, frame["x"]), "m")
    clock = iter([0.0, seconds])
    assert len(measured_rows(version, False, frame, None, lambda: next(clock)).frame) == rows


# Values of columns


@pytest.mark.parametrize(
    ("train", "test", "difference"),
    [
        ([1.5, 2.5], [1.5, 2.5], "0.00"),
        (np.arange(20.0), np.arange(100.0, 120.0), "1.00"),
        (["a", "b"], ["a", "a"], "0.50"),
        (["a", "b"], ["c", "d"], "1.00"),
    ],
)
def test_the_difference_is_0_for_equal_and_1_for_disjoint(
    train: Any, test: Any, difference: str
) -> None:
    assert f"difference {difference}" in distribution("c", [pd.Series(train), pd.Series(test)]).note


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([*np.linspace(0, 1, 1000), 1e9], ("up to 0.01", "above 0.991")),
        (range(100), ("up to 1", "above 98")),
        (
            pd.date_range("2024-01-01", periods=101, tz="UTC"),
            ("up to 2024-01-02", "above 2024-04-09"),
        ),
        (["b", "b", "a"], ("b", "a")),
        (["a"] * 10 + [f"rare {number}" for number in range(10)], ("a", "3 others")),
    ],
    ids=["extremes", "whole numbers", "moments", "texts", "rare values"],
)
def test_a_distribution_has_ranges_of_numbers_and_names_of_values(
    values: Any, labels: tuple[str, str]
) -> None:
    rows = distribution("c", [pd.Series(values)]).rows
    assert (rows[0][0], rows[-1][0]) == labels
    assert sum(cell.shade for _, cell in rows) == pytest.approx(1)


def test_missing_values_are_counted_and_have_no_bar() -> None:
    table = distribution("c", [pd.Series([1.5, None, None, 2.5])], "number")
    assert table.note == "number · 50.0% missing · 2 different"
    assert [cell.text for _, cell in table.rows] == ["50.0%", "50.0%"]


def test_of_many_rows_a_sample_is_drawn() -> None:
    values = GENERATOR.normal(size=20_000)
    plot = errors("Errors", "actual_vs_predicted", values, values)
    assert "A sample of 400 rows" in plot.note
    assert len(plot.svg) < 80_000


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.5, "0.5"),
        (1234.5, "1,234"),
        (-0.25, "-0.25"),
        (1e-7, "1e-07"),
        (12.345, "12.3"),
    ],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


def test_nothing_is_never_negative() -> None:
    assert figure(-0.0004) == "0.000"
    assert figure(-0.0016) == "-0.002"
