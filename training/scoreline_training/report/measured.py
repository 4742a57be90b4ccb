"""A report's rows, answers and comparison, worked out once for all of its sections."""

from __future__ import annotations

from dataclasses import dataclass

from scoreline_training.report.answers import Answers, ask
from scoreline_training.report.classes import Labelled, labelled
from scoreline_training.report.comparison import Comparison, compare
from scoreline_training.report.data import NotMeasurable, ReportData
from scoreline_training.report.measures import Measure, measure
from scoreline_training.report.rows import Rows, measured_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What all sections draw from."""

    data: ReportData
    rows: Rows
    answers: Answers
    measures: list[Measure]
    """Headline figures; empty where `unmeasured` says why."""
    unmeasured: str
    comparison: Comparison | None
    uncompared: str
    """Why there is no comparison, as a sentence."""

    def labels(self) -> Labelled:
        """Truth and predictions of a classifier.

        Raises:
            NotMeasurable: there are no labels, or none that the classifier knows.
        """
        if self.rows.truth is None or self.unmeasured:
            raise NotMeasurable(self.unmeasured or "There are no labels.")
        return labelled(self.rows.truth, self.answers)

    def labels_before(self) -> Labelled | None:
        """The same for the version in production, if it is there to compare with."""
        if self.comparison is None or self.rows.truth is None:
            return None
        return labelled(self.rows.truth, self.comparison.answers)


def take_measure(data: ReportData) -> Measured:
    """Score the rows with both versions and compute the headline figures.

    Raises:
        Exception: whatever the pipeline raises on these rows.
    """
    rows = measured_rows(data)
    answers = ask(data.version, rows.frame, rows.truth)
    measures, unmeasured = _measures(rows, answers)
    comparison, uncompared = _comparison(data, rows, answers)
    return Measured(
        data=data,
        rows=rows,
        answers=answers,
        measures=measures,
        unmeasured=unmeasured,
        comparison=comparison,
        uncompared=uncompared,
    )


def _measures(rows: Rows, answers: Answers) -> tuple[list[Measure], str]:
    if rows.truth is None:
        return [], rows.unlabelled
    try:
        return measure(rows.truth, answers), ""
    except NotMeasurable as reason:
        return [], str(reason)


def _comparison(data: ReportData, rows: Rows, answers: Answers) -> tuple[Comparison | None, str]:
    try:
        return compare(data.production, answers, rows), ""
    except NotMeasurable as reason:
        return None, str(reason)
