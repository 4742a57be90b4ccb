"""How good answers are that are no classes: numbers, several outputs, outliers, features."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from scoreline_training.report import charts
from scoreline_training.report.answers import Array
from scoreline_training.report.blocks import Block, Chart, Charts, Note, Table
from scoreline_training.report.charts import cut
from scoreline_training.report.measured import Measured
from scoreline_training.report.measures import is_continuous, numeric
from scoreline_training.report.svg import number, percent

LISTED = 30
"""Outputs that get a line in a table."""
CHARTED_OUTPUTS = 4


def regressor(measured: Measured) -> Iterable[Block]:
    """Predicted against actual values, and what lies between."""
    values = measured.answers.values
    if measured.rows.truth is None or measured.unmeasured:
        if values.dtype.kind in "fiu" and np.isfinite(values.astype(float)).all():
            yield Charts(
                [charts.two_histograms("Predictions", [("all", values)], x_label="prediction")]
            )
        return
    truth, predicted = numeric(measured.rows.truth, values)
    yield Charts(
        [
            charts.scatter(
                "Predicted and actual",
                predicted,
                truth,
                x_label="predicted",
                y_label="actual",
                diagonal=True,
            ),
            charts.scatter(
                "Residuals over prediction",
                predicted,
                truth - predicted,
                x_label="predicted",
                y_label="actual − predicted",
                level=0.0,
            ),
            _residuals(truth - predicted),
            charts.two_histograms(
                "Actual and predicted values",
                [("actual", truth), ("predicted", predicted)],
                x_label="value",
            ),
        ]
    )
    yield _error_quantiles(np.abs(truth - predicted))


def _residuals(residuals: Array) -> Chart:
    low, high = np.quantile(residuals, [0.05, 0.95])
    bias = float(residuals.mean())
    note = f"Mean {number(bias)}; nine in ten lie between {number(float(low))} and {number(float(high))}."
    groups = [("all", residuals)]
    return charts.two_histograms(
        "Residuals", groups, x_label="actual − predicted", mark=0.0, note=note
    )


def _error_quantiles(errors: Array) -> Table:
    shares = (0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
    return Table(
        caption="Absolute error",
        headings=["share of rows", *(percent(one) for one in shares)],
        rows=[["error at most", *(number(float(one)) for one in np.quantile(errors, shares))]],
    )


# Several outputs


def outputs(measured: Measured) -> Iterable[Block]:
    """Each output by itself."""
    values, truth = measured.answers.values, measured.rows.truth
    if truth is None or measured.unmeasured:
        yield from _columns_of_numbers(values, "output")
        return
    if is_continuous(truth):
        yield _table_of_numbers(truth, values)
        yield Charts(
            [
                charts.scatter(
                    f"Output {one + 1}",
                    values[:, one],
                    truth[:, one],
                    x_label="predicted",
                    y_label="actual",
                    diagonal=True,
                )
                for one in range(min(values.shape[1], CHARTED_OUTPUTS))
            ]
        )
        return
    yield _table_of_classes(truth, values)


def _table_of_numbers(truth: Array, values: Array) -> Table:
    rows = []
    for one in range(min(values.shape[1], LISTED)):
        errors = values[:, one] - truth[:, one]
        spread = float(((truth[:, one] - truth[:, one].mean()) ** 2).mean())
        r2 = f"{1 - float((errors**2).mean()) / spread:.3f}" if spread else "–"
        rows.append(
            [
                f"{one + 1}",
                r2,
                number(float(np.sqrt((errors**2).mean()))),
                number(float(np.abs(errors).mean())),
            ]
        )
    return Table(
        caption="By output",
        headings=["output", "R²", "RMSE", "mean absolute error"],
        rows=rows,
        note=_left_out(values),
    )


def _table_of_classes(truth: Array, values: Array) -> Table:
    rows = []
    for one in range(min(values.shape[1], LISTED)):
        labels = truth[:, one].tolist()
        right = float(
            np.mean([a == b for a, b in zip(labels, values[:, one].tolist(), strict=True)])
        )
        most = max((labels.count(name), str(name)) for name in set(labels))
        rows.append(
            [
                f"{one + 1}",
                f"{len(set(labels))}",
                f"{right:.3f}",
                f"{most[0] / len(labels):.3f}",
                cut(most[1]),
            ]
        )
    return Table(
        caption="By output",
        headings=["output", "classes", "accuracy", "most frequent: share", "most frequent"],
        rows=rows,
        text_columns=(0, 4),
        note=_left_out(values),
    )


def _left_out(values: Array) -> str:
    left = values.shape[1] - LISTED
    return f"The first {LISTED} outputs; {left:,} are left out." if left > 0 else ""


# Outliers and transformers


def outliers(measured: Measured) -> Iterable[Block]:
    """How many rows are called unusual, and by what score."""
    answers = measured.answers
    flagged = float((answers.values == -1).mean())
    names, shares = ["usual", "outlier"], np.array([1 - flagged, flagged])
    drawn = [charts.counts("Answers", names, [("all", shares)])]
    if answers.scores is not None:
        groups: list[tuple[str, Any]] = [("all", answers.scores)]
        truth = measured.rows.truth
        if truth is not None and not measured.unmeasured:
            groups = [
                ("usual", answers.scores[truth == 1]),
                ("outlier", answers.scores[truth == -1]),
            ]
        drawn.append(
            charts.two_histograms(
                "Scores",
                groups,
                x_label="score",
                mark=0.0,
                note="Rows left of 0 are called outliers.",
            )
        )
    yield Charts(drawn)


def transformer(measured: Measured) -> Iterable[Block]:
    """What comes out, feature by feature."""
    yield Note("This pipeline only transforms: what it gives is described, not judged.")
    yield from _columns_of_numbers(measured.answers.values, "feature")


def _columns_of_numbers(values: Array, what: str) -> Iterable[Block]:
    array = values.reshape(len(values), -1)
    rows = []
    for one in range(min(array.shape[1], LISTED)):
        column = array[:, one]
        rows.append([f"{one + 1}", *_summary(column)])
    left = array.shape[1] - len(rows)
    yield Table(
        caption=f"What comes out: {array.shape[1]:,} {what}{'s' if array.shape[1] != 1 else ''}",
        headings=[what, "different", "mean", "standard deviation", "smallest", "largest"],
        rows=rows,
        note=f"The first {LISTED}; {left:,} are left out." if left > 0 else "",
    )


def _summary(column: Array) -> list[str]:
    different = f"{len(set(column.tolist())):,}"
    if column.dtype.kind not in "fiub":
        return [different, "–", "–", "–", "–"]
    figures = (column.mean(), column.std(), column.min(), column.max())
    return [different, *(number(float(one)) for one in figures)]
