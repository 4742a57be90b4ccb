"""The sections about how good the answers are, for each kind of pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from scoreline_training.report import charts, classes, quality_numbers
from scoreline_training.report.answers import Kind
from scoreline_training.report.blocks import (
    Block,
    Cell,
    Chart,
    Charts,
    Columns,
    Note,
    Section,
    Table,
)
from scoreline_training.report.charts import cut
from scoreline_training.report.classes import Curve, Labelled
from scoreline_training.report.data import NotMeasurable
from scoreline_training.report.measured import Measured
from scoreline_training.report.svg import percent

MATRIX_CLASSES = 12
"""Up to so many classes have a matrix; more have a list of the frequent confusions."""
_SPELLED_OUT = 4
LISTED = 30


def quality(measured: Measured) -> Section:
    """How good the answers are, as far as that can be told."""
    make = {
        Kind.BINARY: _classifier,
        Kind.MULTICLASS: _classifier,
        Kind.REGRESSION: quality_numbers.regressor,
        Kind.MULTI_OUTPUT: quality_numbers.outputs,
        Kind.OUTLIERS: quality_numbers.outliers,
        Kind.TRANSFORMER: quality_numbers.transformer,
    }[measured.answers.kind]
    blocks = list(make(measured))
    if measured.unmeasured and measured.answers.kind is not Kind.TRANSFORMER:
        blocks = [Note(measured.unmeasured), *blocks]
    return Section(
        "quality", "Quality" if measured.measures else "Answers", _lead(measured), blocks
    )


def _lead(measured: Measured) -> str:
    rows = f"{len(measured.rows.frame):,}"
    whose = "held-out" if measured.rows.held_out else "training"
    sampled = f", a random sample of {measured.rows.of:,}" if measured.rows.sampled else ""
    return f"On {rows} {whose} rows{sampled}. {measured.rows.remark}".strip()


def _attempt(*makes: Callable[[], Chart]) -> list[Block]:
    """Charts side by side; a sentence in the place of what cannot be drawn, once for each reason."""
    drawn, reasons = [], []
    for make in makes:
        try:
            drawn.append(make())
        except NotMeasurable as reason:
            reasons.append(str(reason))
    blocks: list[Block] = [Charts(drawn)] if drawn else []
    return [*blocks, *map(Note, dict.fromkeys(reasons))]


# Classifiers


def _classifier(measured: Measured) -> Iterable[Block]:
    if measured.rows.truth is None or measured.unmeasured:
        yield Charts([_predicted_classes(measured), *_confidence(measured, None)])
        return
    found = measured.labels()
    yield from _attempt(
        lambda: _roc(measured, found),
        lambda: _precision_recall(measured, found),
        lambda: _calibration(measured, found),
        lambda: _scores_by_class(measured, found),
    )
    tables = [_confusion(found)]
    tables.extend(_thresholds(measured, found) if _is_binary(measured) else [_class_table(found)])
    yield Columns(tables)


def _is_binary(measured: Measured) -> bool:
    return measured.answers.kind is Kind.BINARY


def _roc(measured: Measured, found: Labelled) -> Chart:
    lines = classes.curves(found, measured.answers)
    at = None
    if measured.answers.kind is Kind.BINARY:
        positive, said = found.truth == 1, found.predicted == 1
        at = (float(said[~positive].mean()), float(said[positive].mean()))
    return charts.roc(lines, _before(measured, precision=False), at)


def _precision_recall(measured: Measured, found: Labelled) -> Chart:
    lines = classes.curves(found, measured.answers, precision=True)
    at = None
    if measured.answers.kind is Kind.BINARY and (found.predicted == 1).any():
        positive, said = found.truth == 1, found.predicted == 1
        at = (float(said[positive].mean()), float(positive[said].mean()))
    return charts.precision_recall(lines, _before(measured, precision=True), at)


def _before(measured: Measured, *, precision: bool) -> Curve | None:
    """The curve of the version in production, where there is one curve."""
    comparison = measured.comparison
    if comparison is None or comparison.answers.kind is not Kind.BINARY:
        return None
    try:
        found = measured.labels_before()
        # The same class must stand on the same side of both curves.
        if found is None or found.names[1] != measured.labels().names[1]:
            return None
        line = classes.curves(found, comparison.answers, precision=precision)[0]
    except NotMeasurable:
        return None
    return Curve(f"{comparison.reference}, in production", line.x, line.y, line.area, line.base)


def _calibration(measured: Measured, found: Labelled) -> Chart:
    probabilities = measured.answers.probabilities
    if probabilities is None:
        raise NotMeasurable("Without probabilities there is no calibration to look at.")
    if measured.answers.kind is Kind.BINARY:
        bins = classes.calibration(found.truth == 1, probabilities[:, 1])
        return charts.calibration(bins, cut(str(found.names[1])))
    right = found.truth == probabilities.argmax(axis=1)
    return charts.calibration(classes.calibration(right, probabilities.max(axis=1)), "right")


def _scores_by_class(measured: Measured, found: Labelled) -> Chart:
    answers = measured.answers
    if answers.kind is Kind.BINARY:
        if answers.ranking is None:
            raise NotMeasurable(
                "The pipeline gives neither probabilities nor scores to rank rows by."
            )
        has_probabilities = answers.probabilities is not None
        name = str(found.names[1])
        return charts.two_histograms(
            "Scores by true class",
            [
                (str(one), answers.ranking[found.truth == place])
                for place, one in enumerate(found.names)
            ],
            x_label=f"probability of {cut(name)}" if has_probabilities else "score",
            span=(0, 1) if has_probabilities else None,
        )
    drawn = _confidence(measured, found)
    if not drawn:
        raise NotMeasurable("The pipeline gives no probabilities to rank rows by.")
    return drawn[0]


def _confidence(measured: Measured, found: Labelled | None) -> list[Chart]:
    """How sure the pipeline is of what it predicts; apart for right and wrong, if that is known."""
    answers = measured.answers
    if answers.probabilities is None:
        return []
    if found is None:
        if answers.kind is Kind.BINARY:
            name = cut(str((answers.classes or ["", ""])[1]))
            groups = [("all", answers.probabilities[:, 1])]
            return [
                charts.two_histograms(
                    "Scores", groups, x_label=f"probability of {name}", span=(0, 1)
                )
            ]
        groups = [("all", answers.probabilities.max(axis=1))]
    else:
        right = found.truth == found.predicted
        top = answers.probabilities.max(axis=1)
        groups = [("right", top[right]), ("wrong", top[~right])]
    label = "probability of the likeliest class"
    return [charts.two_histograms("Confidence", groups, x_label=label, span=(0, 1))]


def _predicted_classes(measured: Measured) -> Chart:
    values = measured.answers.values.tolist()
    known = list(measured.answers.classes or [])
    counted = sorted(
        ((values.count(one) / max(len(values), 1), one) for one in known), key=lambda one: -one[0]
    )
    shown = counted[: charts.SERIES * 2]
    shares = np.array([share for share, _ in shown])
    return charts.counts("Predicted classes", [name for _, name in shown], [("all", shares)])


def _confusion(found: Labelled) -> Table:
    if len(found.names) > MATRIX_CLASSES:
        return _confusions(found)
    matrix = found.matrix
    rows = []
    for place, name in enumerate(found.names):
        total = int(matrix[place].sum())
        cells = [
            _share_cell(int(one), total, right=place == other)
            for other, one in enumerate(matrix[place])
        ]
        rows.append([Cell(cut(str(name))), *cells, Cell(f"{total:,}", css="total")])
    said = "predicted " if len(found.names) <= _SPELLED_OUT else ""
    return Table(
        caption="Confusion matrix",
        headings=["true class", *(f"{said}{cut(str(one), 16)}" for one in found.names), "rows"],
        rows=rows,
        note=(
            "Rows: the true class; columns: the predicted one. Percentages are shares of a row; the "
            "diagonal is right."
        ),
        css="matrix",
    )


def _share_cell(count: int, total: int, *, right: bool) -> Cell:
    if not count:
        return Cell("0", css="none")
    share = count / total
    return Cell(f"{count:,}", share, percent(share), "right" if right else "wrong")


def _confusions(found: Labelled) -> Table:
    matrix = found.matrix.copy()
    totals = matrix.sum(axis=1)
    np.fill_diagonal(matrix, 0)
    order = np.argsort(-matrix, axis=None, kind="stable")[:LISTED]
    rows = []
    for true, said in zip(*np.unravel_index(order, matrix.shape), strict=True):
        if matrix[true, said]:
            share = matrix[true, said] / totals[true]
            names = cut(str(found.names[true])), cut(str(found.names[said]))
            rows.append([*names, f"{matrix[true, said]:,}", percent(float(share))])
    return Table(
        caption="Most frequent confusions",
        headings=["true class", "predicted", "rows", "share of the true class"],
        rows=rows,
        text_columns=(0, 1),
        note=f"{len(found.names)} classes are too many for a matrix.",
    )


def _class_table(found: Labelled) -> Table:
    figures = sorted(classes.by_class(found), key=lambda one: (-one.rows, str(one.name)))
    rows = [
        [
            cut(str(one.name)),
            f"{one.rows:,}",
            f"{one.predicted:,}",
            f"{one.precision:.3f}",
            f"{one.recall:.3f}",
            f"{one.f1:.3f}",
        ]
        for one in figures[:LISTED]
    ]
    left = len(figures) - len(rows)
    return Table(
        caption="By class",
        headings=["class", "rows", "predicted", "precision", "recall", "F1"],
        rows=rows,
        note=f"The {LISTED} most frequent classes; {left} are left out." if left > 0 else "",
    )


def _thresholds(measured: Measured, found: Labelled) -> Iterable[Table]:
    probabilities = measured.answers.probabilities
    positive = found.truth == 1
    if probabilities is None or not positive.any():
        return
    name = cut(str(found.names[1]))
    yield Table(
        caption="If another threshold were chosen",
        headings=["threshold", f"rows called {name}", "precision", "recall"],
        rows=[
            [
                f"{one.at:.1f}",
                percent(one.flagged),
                "–" if one.precision is None else f"{one.precision:.3f}",
                f"{one.recall:.3f}",
            ]
            for one in classes.thresholds(positive, probabilities[:, 1])
        ],
        note=f"Rows whose probability of {name} is at least the threshold are called {name}.",
    )
