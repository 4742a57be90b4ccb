"""The figures behind a training report: measures, intervals, curves, importance, distributions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.linear_model import LinearRegression

from scoreline_artifacts import Schema
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_training.report import charts, classes, intervals
from scoreline_training.report.answers import Answers, Kind, ask
from scoreline_training.report.data import NotMeasurable, ReportData
from scoreline_training.report.features import distribution
from scoreline_training.report.importance import importance
from scoreline_training.report.measures import Measure, measure, objective
from scoreline_training.report.rows import SCORING_BUDGET_S, Rows, measured_rows
from scoreline_training.report.sections import trend_of
from scoreline_training.report.svg import POINTS_OF_A_LINE, Plot, number, percent, ticks

GENERATOR = np.random.default_rng(0)


def _binary(truth: list[int], probability: list[float]) -> Answers:
    one = np.array(probability)
    return Answers(
        kind=Kind.BINARY,
        values=(one > 0.5).astype(int),
        classes=[0, 1],
        probabilities=np.column_stack([1 - one, one]),
    )


def _by_name(found: list[Measure]) -> dict[str, Measure]:
    return {one.name: one for one in found}


# Measures


def test_figures_of_a_binary_classifier_are_scikit_learns() -> None:
    truth = GENERATOR.integers(0, 2, 300)
    probability = np.clip(truth * 0.3 + GENERATOR.random(300) * 0.7, 0, 1).round(2)
    answers = _binary(truth.tolist(), probability.tolist())
    found = {name: one.value for name, one in _by_name(measure(truth, answers)).items()}
    said = answers.values
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
    assert found == pytest.approx(expected)


def test_figures_of_a_regressor_are_scikit_learns() -> None:
    truth, values = GENERATOR.normal(size=200), GENERATOR.normal(size=200)
    answers = Answers(kind=Kind.REGRESSION, values=values)
    found = {name: one.value for name, one in _by_name(measure(truth, answers)).items()}
    expected = {
        "R²": metrics.r2_score(truth, values),
        "RMSE": metrics.root_mean_squared_error(truth, values),
        "Mean absolute error": metrics.mean_absolute_error(truth, values),
        "Median absolute error": metrics.median_absolute_error(truth, values),
        "Largest error": metrics.max_error(truth, values),
    }
    assert found == pytest.approx(expected)


def test_the_simplest_answer_stands_beside_a_figure() -> None:
    answers = _binary([0, 0, 0, 1], [0.1, 0.2, 0.3, 0.9])
    found = _by_name(measure(np.array([0, 0, 0, 1]), answers))
    assert found["Accuracy"].baseline == 0.75
    assert found["ROC AUC"].baseline == 0.5
    assert found["Average precision"].baseline == 0.25
    assert found["Log loss"].baseline == pytest.approx(
        -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    )


@given(
    truth=st.lists(st.booleans(), min_size=2, max_size=40).filter(
        lambda one: 0 < sum(one) < len(one)
    ),
    seed=st.integers(0, 1000),
)
def test_the_area_under_roc_is_that_of_scikit_learn_with_ties(truth: list[bool], seed: int) -> None:
    ranking = np.random.default_rng(seed).integers(0, 5, len(truth)).astype(float)
    found = classes.area_under_roc(np.array(truth), ranking)
    assert found == pytest.approx(metrics.roc_auc_score(truth, ranking))


@pytest.mark.parametrize("truth", [[math.nan, 1.0], [math.inf, 1.0]])
def test_a_regressor_is_not_measured_with_values_that_are_not_finite(truth: list[float]) -> None:
    with pytest.raises(NotMeasurable, match="not finite"):
        measure(np.array(truth), Answers(kind=Kind.REGRESSION, values=np.array([1.0, 2.0])))


# Intervals


def test_wilsons_interval_is_that_of_the_literature() -> None:
    assert intervals.wilson(0.5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert intervals.wilson(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert intervals.wilson(1.0, 3)[1] == 1.0


def test_the_interval_of_an_area_is_that_of_hanley_and_mcneil() -> None:
    # Their standard error for an area of 0.893 with 51 and 58 cases is 0.032.
    low, high = intervals.of_auc(0.893, 51, 58)
    assert (high - low) / 2 / 1.96 == pytest.approx(0.032, abs=0.001)


@given(share=st.floats(0, 1), rows=st.integers(1, 1000))
def test_an_interval_of_a_share_holds_it_and_stays_within_0_and_1(share: float, rows: int) -> None:
    for low, high in (intervals.wilson(share, rows), intervals.of_average_precision(share, rows)):
        assert 0 <= low <= share + 1e-9
        assert share - 1e-9 <= high <= 1


@pytest.mark.parametrize(
    ("now", "before", "interval", "more_is_better", "trend"),
    [
        (0.80, 0.70, (0.75, 0.85), True, "better"),
        (0.80, 0.70, (0.75, 0.85), False, "worse"),
        (0.80, 0.76, (0.75, 0.85), True, "unclear"),
        (0.80, 0.76, None, True, "better"),
        (0.80, 0.8001, (0.75, 0.85), True, "same"),
    ],
)
def test_a_difference_within_the_interval_is_called_neither_better_nor_worse(
    now: float, before: float, interval: Any, more_is_better: bool, trend: str
) -> None:
    one = Measure("f", now, more_is_better, interval=interval)
    assert trend_of(one, Measure("f", before)) == trend


def test_figures_lie_in_their_intervals() -> None:
    truth = GENERATOR.integers(0, 2, 100)
    answers = _binary(truth.tolist(), GENERATOR.random(100).tolist())
    numbers = Answers(kind=Kind.REGRESSION, values=GENERATOR.normal(size=100))
    found = [*measure(truth, answers), *measure(GENERATOR.normal(size=100), numbers)]
    known = [one for one in found if one.interval is not None]
    assert {"F1 of 1", "R²", "RMSE", "ROC AUC"} <= {one.name for one in known}
    assert all(one.interval[0] < one.value < one.interval[1] for one in known if one.interval)


# Classes


def test_calibration_counts_what_came_true_in_each_tenth() -> None:
    probability = np.array([0.05, 0.05, 0.95, 1.0])
    low, high = classes.calibration(np.array([False, True, True, True]), probability)
    assert (low.mean, low.share, low.rows) == (pytest.approx(0.05), 0.5, 2)
    assert (high.mean, high.share, high.rows) == (pytest.approx(0.975), 1.0, 2)
    assert classes.calibration_error([low, high]) == pytest.approx((0.45 + 0.025) / 2)


def test_a_threshold_trades_precision_for_recall() -> None:
    found = classes.thresholds(np.array([False, True, True]), np.array([0.35, 0.35, 0.75]))
    at = {round(one.at, 1): one for one in found}
    assert (at[0.3].precision, at[0.3].recall) == (pytest.approx(2 / 3), 1.0)
    assert (at[0.5].precision, at[0.5].recall, at[0.5].flagged) == (1.0, 0.5, pytest.approx(1 / 3))
    assert (at[0.9].precision, at[0.9].recall) == (None, 0.0)


def test_a_precision_recall_curve_has_no_point_without_a_threshold() -> None:
    truth = np.array([1, 0, 1, 0])
    answers = _binary(truth.tolist(), [0.4, 0.9, 0.3, 0.1])
    curve = classes.curves(classes.labelled(truth, answers), answers, precision=True)[0]
    assert (curve.x[0], curve.y[0]) == (0.0, 0.0)
    assert curve.x[-1] == 1.0


# Kinds


@pytest.mark.parametrize(
    ("answer", "truth", "kind"),
    [
        (["a", "b"], None, Kind.BINARY),
        (["a", "b"], ["a", "c"], Kind.MULTICLASS),
        ([1, 2], None, Kind.REGRESSION),
        ([1.5, 2.5], [1, 2], Kind.REGRESSION),
        ([True, False], None, Kind.BINARY),
        ([[1, 2], [3, 4]], None, Kind.MULTI_OUTPUT),
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


# Importance


def _rows(frame: pd.DataFrame, truth: Any = None) -> Rows:
    known = None if truth is None else np.asarray(truth)
    return Rows(frame=frame, truth=known, held_out=True, of=len(frame))


def test_the_column_that_matters_comes_first_and_another_costs_nothing() -> None:
    frame = pd.DataFrame({"noise": GENERATOR.normal(size=80), "signal": GENERATOR.normal(size=80)})
    target = frame["signal"] * 2
    version = LoadedVersion.of(LinearRegression().fit(frame, target), "m")
    found = importance(version, _rows(frame, target))
    assert [one.name for one in found.columns] == ["signal", "noise"]
    assert found.unit == "drop of R²"
    assert found.columns[0].mean > 1
    assert found.columns[1].mean == pytest.approx(0, abs=1e-9)
    assert found.columns[0].low <= found.columns[0].mean <= found.columns[0].high


def test_importance_leaves_the_rows_as_they_were() -> None:
    frame = pd.DataFrame({"x": np.arange(30.0)}, index=[7] * 30)
    before = frame.copy()
    importance(LoadedVersion.of(LinearRegression().fit(frame, frame["x"]), "m"), _rows(frame))
    pd.testing.assert_frame_equal(frame, before)


def test_a_time_budget_cuts_repeats_first_and_then_columns() -> None:
    frame = pd.DataFrame(GENERATOR.normal(size=(20, 3)), columns=list("abc"))
    version = LoadedVersion.of(LinearRegression().fit(frame, frame["a"]), "m")
    for budget_s, repeats, left_out in ((5.0, 1, 0), (3.0, 1, 1), (100.0, 5, 0)):
        passing = iter(range(1000))
        found = importance(
            version, _rows(frame), budget_s=budget_s, clock=lambda passing=passing: next(passing)
        )
        assert (found.repeats, found.left_out) == (repeats, left_out)


def test_without_labels_it_is_measured_how_far_the_answers_move() -> None:
    answers = Answers(kind=Kind.REGRESSION, values=np.array([0.0, 2.0]))
    unit, loss = objective(None, answers)
    assert unit == "mean change, in standard deviations of the answers"
    assert loss(Answers(kind=Kind.REGRESSION, values=np.array([1.0, 2.0]))) == 0.5


@pytest.mark.parametrize(
    ("seconds", "rows"),
    [
        ([0.2 * SCORING_BUDGET_S] * 2, 1000),
        ([0.2 * SCORING_BUDGET_S, 0.001], 5000),
        ([0.001], 5000),
    ],
    ids=["always slow", "slow at first", "quick"],
)
def test_a_slow_pipeline_is_measured_on_fewer_rows(seconds: list[float], rows: int) -> None:
    frame = pd.DataFrame({"x": np.arange(5000.0)})
    version = LoadedVersion.of(LinearRegression().fit(frame, frame["x"]), "m")
    data = ReportData(version=version, created_at="", X_train=frame)
    clock = iter([moment for one in seconds for moment in (0.0, one)])
    assert len(measured_rows(data, lambda: next(clock)).frame) == rows


# Distributions


def _distribution(train: Any, test: Any = None) -> Any:
    series = pd.Series(train, name="c")
    (column,) = Schema.infer(series.to_frame()).columns
    return distribution(column, series, None if test is None else pd.Series(test, name="c"))


def test_bins_of_whole_numbers_hold_equally_many_of_them() -> None:
    found = _distribution(list(range(100)) * 3)
    widths = set(np.diff(found.edges))
    assert len(widths) == 1
    assert widths.pop() == 5
    assert found.train[0] == pytest.approx(0.05)
    assert float(found.train.sum()) == pytest.approx(1)


def test_few_whole_numbers_have_a_bar_each() -> None:
    found = _distribution([0, 0, 1, 3])
    assert found.edges.tolist() == [-0.5, 0.5, 1.5, 2.5, 3.5]
    assert found.train.tolist() == [0.5, 0.25, 0, 0.25]


def test_extremes_do_not_squeeze_all_other_values() -> None:
    found = _distribution([*np.linspace(0, 1, 1000), 1e9])
    assert found.clipped
    assert found.edges[-1] < 2


@pytest.mark.parametrize(
    ("train", "test", "distance"),
    [
        ([1.5, 2.5], [1.5, 2.5], 0.0),
        ([1.5, 2.5], [10.5, 11.5], 1.0),
        (["a", "b"], ["a", "a"], 0.5),
        (["a", "b"], ["c", "d"], 1.0),
    ],
)
def test_the_difference_is_0_for_equal_and_1_for_disjoint(
    train: list[Any], test: list[Any], distance: float
) -> None:
    assert _distribution(train, test).distance == pytest.approx(distance)


def test_rare_values_share_a_bar() -> None:
    found = _distribution(["a"] * 10 + [f"rare {number}" for number in range(10)])
    assert found.labels[0] == "a"
    assert found.labels[-1] == "5 others"
    assert float(found.train[-1]) == pytest.approx(0.25)


def test_texts_are_drawn_by_their_length() -> None:
    found = _distribution([f"{number} " + "x" * (number % 7) for number in range(100)])
    assert found.what == "characters"
    assert found.distinct == 100


def test_missing_values_are_counted_in_both() -> None:
    found = _distribution([1.5, None, None, 2.5], [None, 1.5])
    assert (found.missing, found.missing_test) == (0.5, 0.5)
    assert float(found.train.sum()) == pytest.approx(1)


# Drawing


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (-3, 7, [-2, 0, 2, 4, 6]),
        (5, 5, [5]),
        (0, math.inf, [0]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.5, "0.5"),
        (1234.5, "1,234"),
        (-0.25, "−0.25"),
        (1e-7, "1e−7"),
        (1e9, "1e9"),
        (12.345, "12.3"),
    ],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0 %"), (0.0001, "<0.1 %"), (0.05, "5 %"), (0.066, "6.6 %"), (1, "100 %")],
)
def test_a_small_share_is_not_nothing(share: float, text: str) -> None:
    assert percent(share) == text


def test_a_long_line_is_thinned_and_keeps_its_ends() -> None:
    plot = Plot(100, 100, (0, 9999), (0, 9999), "a line", margins=(0, 0, 0, 0))
    plot.line(np.arange(10_000), np.arange(10_000), "line")
    path = str(plot.svg())
    assert path.count("L") < POINTS_OF_A_LINE
    assert "M0 100L" in path
    assert "L100 0" in path


def test_of_many_classes_those_that_fare_worst_are_drawn() -> None:
    line = np.array([0.0, 1.0])
    curves = [classes.Curve(f"c{one}", line, line, 0.5 + one / 100, 0.5) for one in range(9)]
    chart = charts.roc(curves[::-1], None, None)
    assert [text[:2] for _, text in chart.legend] == ["c0", "c1", "c2", "c3", "c4", "c5"]
    assert "3 others are not drawn" in chart.note


def test_many_points_are_counted_into_cells() -> None:
    values = GENERATOR.normal(size=20_000)
    svg = str(charts.scatter("s", values, values, x_label="x", y_label="y").svg)
    assert "<circle" not in svg
    assert len(svg) < 50_000


def test_nothing_is_never_negative() -> None:
    assert charts.fixed(-0.0004, 3) == "0.000"
    assert charts.fixed(-0.0016, 3) == "−0.002"
