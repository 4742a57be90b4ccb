"""The small plots of a report: how the values of one column are distributed."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from scoreline_training.report.blocks import Chart
from scoreline_training.report.charts import cut, percents
from scoreline_training.report.features import Distribution
from scoreline_training.report.svg import Plot, number, percent, ticks

WIDTH, HEIGHT = 250, 132


def column_values(found: Distribution) -> Chart:
    """A column's values in training, and those of held-out rows over them."""
    plot = _histogram(found) if found.edges is not None else _category_bars(found)
    return Chart(found.column.name, plot.svg() if plot else NOTHING.svg(), _of_column(found))


def _histogram(found: Distribution) -> Plot:
    edges = found.edges
    assert edges is not None  # noqa: S101 - narrows the type; the caller has looked
    tops = [float(one.max()) for one in (found.train, found.test) if one is not None and len(one)]
    top = max(0.01, *tops) * 1.05
    plot = _small(found, (float(edges[0]), float(edges[-1])), (0, top))
    plot.axes(y_ticks=percents(top, 2)[1:], x_ticks=_x_ticks(found, plot))
    plot.bars(edges, found.train, "bar s1 light")
    if found.test is not None:
        plot.outline(edges, found.test, "line s2 thin")
    plot.baseline()
    return plot


def _small(found: Distribution, x_range: tuple[float, float], y_range: tuple[float, float]) -> Plot:
    label = f"Distribution of {found.column.name}. {_of_column(found)}"
    return Plot(WIDTH, HEIGHT, x_range, y_range, label, (8, 8, 20, 36))


def _x_ticks(found: Distribution, plot: Plot) -> list[tuple[float, str]]:
    values = ticks(*plot.x_range, 4)
    if found.what != "date":
        return [(value, number(value)) for value in values]
    places = np.linspace(*plot.x_range, 5)[1::2].tolist()
    return [(place, _date(place)) for place in places]


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def _category_bars(found: Distribution) -> Plot | None:
    rows = len(found.labels)
    if not rows:
        return None
    tops = [float(one.max()) for one in (found.train, found.test) if one is not None]
    span = (0.0, max(0.01, *tops))
    label = f"Distribution of {found.column.name}. {_of_column(found)}"
    plot = Plot(WIDTH, HEIGHT, span, (max(rows, 4), 0), label, (4, 44, 4, 96))
    for place, text in enumerate(found.labels):
        plot.cells([(0, place + 0.82, float(found.train[place]), -0.64)], "bar s1 light")
        if found.test is not None:
            here = float(found.test[place])
            plot.segment((here, place + 0.1), (here, place + 0.9), "line s2")
        plot.text(plot.x.start - 6, plot.y(place + 0.5) + 4, cut(text, 15), anchor="end")
        longest = max(float(one[place]) for one in (found.train, found.test) if one is not None)
        plot.text(plot.x(longest) + 5, plot.y(place + 0.5) + 4, percent(float(found.train[place])))
    return plot


NOTHING = Plot(WIDTH, HEIGHT, (0, 1), (0, 1), "No value in any row")
NOTHING.text(WIDTH / 2, HEIGHT / 2, "no value in any row", anchor="middle", css="t axis")


def _of_column(found: Distribution) -> str:
    parts = [found.column.type.value]
    if found.what == "characters":
        parts.append("length in characters")
    if found.distinct > 1 and (found.labels or found.what == "characters"):
        parts.append(f"{found.distinct:,} different")
    if found.distinct == 1:
        parts.append("one value only")
    if found.missing or found.missing_test:
        parts.append(f"{percent(found.missing)} missing")
    if found.clipped:
        parts.append("extremes outside the drawing")
    if found.distance is not None:
        parts.append(f"difference {found.distance:.2f}")
    return " · ".join(parts)
