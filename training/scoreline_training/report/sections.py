"""The sections about the version in production and about the columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from scoreline_training.report import charts
from scoreline_training.report.answers import Kind
from scoreline_training.report.blocks import (
    Block,
    Cell,
    Chart,
    Charts,
    Columns,
    Facts,
    Note,
    Section,
    Table,
)
from scoreline_training.report.charts import cut, fixed
from scoreline_training.report.column_charts import column_values
from scoreline_training.report.comparison import Comparison
from scoreline_training.report.features import SAMPLED_ROWS, distribution
from scoreline_training.report.importance import Importance
from scoreline_training.report.measured import Measured
from scoreline_training.report.measures import Measure
from scoreline_training.report.origin import schema_of
from scoreline_training.report.rows import sample_places
from scoreline_training.report.svg import number, percent

DRAWN_COLUMNS = 36


# Comparison


def production(measured: Measured) -> Section:
    """The new version beside the one in production."""
    title = "Beside production"
    found = measured.comparison
    if found is None:
        return Section("production", title, "", [Note(measured.uncompared)])
    released = measured.data.production.released_at
    since = f", released {_day(released)}" if released else ""
    lead = (
        f"{found.reference}{since}, scored the same {len(measured.rows.frame):,} rows. If it was trained "
        "on some of them, its figures flatter it."
    )
    both: list[Block] = [_agreement(measured, found)]
    if found.measures and measured.measures:
        both.insert(0, _side_by_side(measured.measures, found))
    blocks: list[Block] = [Columns(both)]
    drawn = list(_differences(measured, found))
    if drawn:
        blocks.append(Charts(drawn))
    return Section("production", title, lead, blocks)


def _agreement(measured: Measured, found: Comparison) -> Facts:
    rows = len(measured.rows.frame)
    same = round(found.agreement * rows)
    items = [("Same answer", f"{same:,} of {rows:,} rows ({percent(found.agreement)})")]
    if found.mended is not None and found.broken is not None:
        items.append(("Right now, wrong in production", f"{found.mended:,}"))
        items.append(("Wrong now, right in production", f"{found.broken:,}"))
        items.append(("By chance alone", _chance(found.mended, found.broken)))
    return Facts(items, "Row by row")


def _chance(mended: int, broken: int) -> str:
    """How likely so uneven a split of the changed rows is if both versions are equally good."""
    if mended + broken == 0:
        return "both versions are right on the same rows"
    likely = float(stats.binomtest(mended, mended + broken).pvalue)
    return f"a split as uneven as this has p = {number(round(likely, 3))} (exact McNemar test)"


def _side_by_side(measures: Sequence[Measure], found: Comparison) -> Table:
    before = {one.name: one for one in found.measures}
    rows: list[list[Cell | str]] = []
    for one in measures:
        if (other := before.get(one.name)) is None:
            continue
        trend = trend_of(one, other)
        change = Cell(signed(one.value - other.value, one.value), css=trend, detail=TRENDS[trend])
        rows.append(
            [
                one.name,
                figure(one.value),
                interval(one),
                figure(other.value),
                change,
                _baseline(one),
            ]
        )
    return Table(
        caption="Figures",
        headings=[
            "figure",
            "this version",
            "95 % interval",
            found.reference,
            "difference",
            "simplest",
        ],
        rows=rows,
        note=(
            "Within error: production's figure lies in the 95 % interval of this one's. Simplest: what "
            "chance, the most frequent class or the mean would have."
        ),
    )


def _baseline(one: Measure) -> str:
    return "–" if one.baseline is None else figure(one.baseline)


def interval(one: Measure) -> str:
    """A figure's interval."""
    return "–" if one.interval is None else f"{figure(one.interval[0])}–{figure(one.interval[1])}"


TRENDS = {"better": "better", "worse": "worse", "unclear": "within error", "same": "the same"}
"""Whether a figure is better than before, in words."""


def trend_of(one: Measure, before: Measure) -> str:
    """Whether a figure is better or worse than before, the same, or too inexactly known to tell."""
    change = one.value - before.value
    if abs(change) < 5e-4 * max(1.0, abs(before.value)):
        return "same"
    if one.interval is not None and one.interval[0] <= before.value <= one.interval[1]:
        return "unclear"
    return "better" if (change > 0) == one.more_is_better else "worse"


def figure(value: float) -> str:
    """A headline figure: three decimals, fewer if it is large."""
    return fixed(value, _decimals(value))


def signed(change: float, of: float) -> str:
    """A difference with its sign, to the decimals of what it is a difference of."""
    text = fixed(change, _decimals(of))
    return text if text.startswith("−") else f"+{text}"


def _decimals(value: float) -> int:
    return next((digits for limit, digits in ((10, 3), (1000, 1)) if abs(value) < limit), 0)


def _differences(measured: Measured, found: Comparison) -> Iterable[Chart]:
    pair = _comparable(measured, found)
    if pair is None:
        return
    now, before, what = pair
    if not (np.isfinite(now).all() and np.isfinite(before).all()):
        return
    share = bool(measured.answers.kind is Kind.BINARY)
    yield charts.scatter(
        "Both versions",
        before,
        now,
        x_label=f"{what}, {found.reference}",
        y_label=f"{what}, this version",
        diagonal=True,
    )
    change = now - before
    size = float(np.abs(change).mean())
    note = (
        f"Mean absolute difference {number(size)}; largest {number(float(np.abs(change).max()))}."
    )
    reach = float(np.abs(change).max()) or (0.01 if share else 1.0)
    yield charts.two_histograms(
        "Differences",
        [("all", change)],
        x_label=f"this version − {found.reference}",
        span=(-reach, reach),
        mark=0.0,
        note=note,
    )


def _comparable(measured: Measured, found: Comparison) -> tuple[Any, Any, str] | None:
    """One number per row of both versions, and what it is."""
    now, before = measured.answers, found.answers
    if now.kind is Kind.BINARY:
        if now.probabilities is None or before.probabilities is None or not now.classes:
            return None
        if before.classes is None or now.classes[1] not in before.classes:
            return None
        place = before.classes.index(now.classes[1])
        name = f"P({cut(str(now.classes[1]), 14)})"
        return now.probabilities[:, 1], before.probabilities[:, place], name
    if now.kind is Kind.REGRESSION and {now.values.dtype.kind, before.values.dtype.kind} <= set(
        "fiu"
    ):
        return now.values.astype(float), before.values.astype(float), "prediction"
    if now.kind is Kind.OUTLIERS and now.scores is not None and before.scores is not None:
        return now.scores, before.scores, "score"
    return None


# Columns


def important_columns(found: Importance) -> Section:
    """What it costs when a column is shuffled."""
    lead = (
        f"Each raw column was shuffled {_times(found.repeats)} over {found.rows:,} rows, and the pipeline "
        f"asked again; bars show the {found.unit}, whiskers the span of the repeats. Columns that carry "
        "the same information hide each other."
    )
    return Section("importance", "Importance of columns", lead, [*_importance_blocks(found)])


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _importance_blocks(found: Importance) -> Iterable[Block]:
    yield Charts([charts.importances(found)], size="wide")
    quiet = found.columns[charts.IMPORTANCES :]
    if quiet:
        largest = max(abs(one.mean) for one in quiet)
        yield Note(f"{len(quiet):,} more columns matter less: {number(largest)} at most.")
    if found.left_out:
        yield Note(f"{found.left_out:,} columns were not measured, to keep the report quick.")


def columns(measured: Measured, order: Sequence[str]) -> Section:
    """How the values of each column are distributed, the most important columns first."""
    data = measured.data
    schema = {column.name: column for column in schema_of(data)}
    names = [name for name in dict.fromkeys([*order, *schema]) if name in schema]
    train = data.X_train.iloc[sample_places(len(data.X_train), SAMPLED_ROWS)]
    test = data.X_test if measured.rows.held_out else None
    if test is not None:
        test = test.iloc[sample_places(len(test), SAMPLED_ROWS)]
    drawn = [
        column_values(distribution(schema[name], train[name], None if test is None else test[name]))
        for name in names[:DRAWN_COLUMNS]
    ]
    blocks: list[Block] = [Charts(drawn, size="small")]
    if len(names) > DRAWN_COLUMNS:
        left = len(names) - DRAWN_COLUMNS
        blocks.append(Note(f"The {DRAWN_COLUMNS} columns that matter most; {left:,} are left out."))
    return Section("columns", "Values of columns", _columns_lead(len(data.X_train), test), blocks)


def _columns_lead(rows: int, test: pd.DataFrame | None) -> str:
    sampled = f", a random sample of {SAMPLED_ROWS:,}" if rows > SAMPLED_ROWS else ""
    text = f"Blue: share of the {rows:,} training rows{sampled}."
    if test is None:
        return text
    return (
        f"{text} Orange line: the held-out rows. Difference: between the two, from 0 for equal to 1 for "
        "disjoint (Kolmogorov–Smirnov; for categories half the sum of the differences)."
    )


def _day(moment: str) -> str:
    return moment[:10]
