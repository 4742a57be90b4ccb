"""The plots of a report: figures in, inline SVG out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from scoreline_training.report.answers import Array
from scoreline_training.report.blocks import Chart
from scoreline_training.report.classes import CalibrationBin, Curve, calibration_error
from scoreline_training.report.importance import ColumnImportance, Importance
from scoreline_training.report.svg import Plot, number, percent, ticks

WIDTH, HEIGHT = 460, 310
SERIES = 6
"""Classes that get a line of their own: more colours are not told apart."""
IMPORTANCES = 20
"""Columns that get a bar."""
_DOTS = 400
"""Up to so many points are drawn one by one, more are counted into cells."""
_CELLS = 36
_LEVELS = 6
_SHARES = [(0.0, "0"), (0.25, "0.25"), (0.5, "0.5"), (0.75, "0.75"), (1.0, "1")]
_NAME_LENGTH = 24
_BELOW = -0.24
"""How far a calibration plot goes below 0, for the bars of its bins."""


def roc(lines: Sequence[Curve], before: Curve | None, at: tuple[float, float] | None) -> Chart:
    """ROC curves, and where the pipeline's own predictions lie on one."""
    lines, note = _hardest(lines)
    plot = _square(f"ROC curves. {_areas(lines, 'AUC')}")
    plot.axes(
        x_label="false positive rate",
        y_label="true positive rate",
        x_ticks=_SHARES,
        y_ticks=_SHARES,
    )
    plot.segment((0, 0), (1, 1), "line chance")
    legend = _lines(plot, lines, before, "AUC")
    if at is not None:
        plot.points([at[0]], [at[1]], "dot here", radius=4)
        legend.append(("dot here", "where predict() stands"))
    return Chart("ROC", plot.svg(), note, legend)


def precision_recall(
    lines: Sequence[Curve], before: Curve | None, at: tuple[float, float] | None
) -> Chart:
    """Precision over recall, and where the pipeline's own predictions lie."""
    lines, note = _hardest(lines)
    plot = _square(f"Precision over recall. {_areas(lines, 'average precision')}")
    plot.axes(x_label="recall", y_label="precision", x_ticks=_SHARES, y_ticks=_SHARES)
    if len(lines) == 1:
        plot.segment((0, lines[0].base), (1, lines[0].base), "line chance")
    legend = _lines(plot, lines, before, "AP")
    if at is not None:
        plot.points([at[0]], [at[1]], "dot here", radius=4)
        legend.append(("dot here", "where predict() stands"))
    return Chart("Precision–recall", plot.svg(), note, legend)


def _square(label: str) -> Plot:
    return Plot(WIDTH, HEIGHT, (0, 1), (0, 1), label, margins=(26, 14, 36, 36))


def _areas(lines: Sequence[Curve], what: str) -> str:
    return "; ".join(f"{one.name}: {what} {one.area:.3f}" for one in lines)


def _hardest(lines: Sequence[Curve]) -> tuple[Sequence[Curve], str]:
    """The lines that are drawn: of many classes, those that fare worst; and a sentence that says so."""
    if len(lines) <= SERIES:
        return lines, ""
    shown = sorted(lines, key=lambda one: one.area)[:SERIES]
    return (
        shown,
        f"The {SERIES} classes that fare worst; {len(lines) - SERIES} others are not drawn.",
    )


def _lines(
    plot: Plot, lines: Sequence[Curve], before: Curve | None, what: str
) -> list[tuple[str, str]]:
    legend = []
    if before is not None:
        plot.line(before.x, before.y, "line before")
        legend.append(("line before", f"{before.name}, {what} {before.area:.3f}"))
    for place, one in reversed(list(enumerate(lines, 1))):
        plot.line(one.x, one.y, f"line s{place}")
        name = "this version" if before is not None and len(lines) == 1 else cut(one.name)
        legend.insert(0, (f"line s{place}", f"{name}, {what} {one.area:.3f}"))
    return legend


def calibration(bins: Sequence[CalibrationBin], of: str) -> Chart:
    """Share that came true over probability, with 95 % intervals, and the rows of each bin below."""
    error = calibration_error(bins)
    label = f"Calibration of {of}: error {error:.3f}"
    plot = Plot(WIDTH, HEIGHT, (0, 1), (_BELOW, 1), label, (26, 14, 36, 36))
    plot.axes(
        x_label="predicted probability",
        y_label=f"share that is {of}",
        x_ticks=_SHARES,
        y_ticks=_SHARES,
    )
    plot.segment((0, 0), (1, 1), "line chance")
    most = max(one.rows for one in bins)
    deep = [(one.tenth / 10, 0.75 * -_BELOW * one.rows / most) for one in bins]
    plot.cells([(x + 0.015, _BELOW, 0.07, high) for x, high in deep], "bar quiet")
    for one in bins:
        plot.segment((one.mean, one.low), (one.mean, one.high), "whisker")
    places = [one.mean for one in bins], [one.share for one in bins]
    plot.line(*places, "line s1 thin")
    plot.points(*places, "dot s1", radius=3.5)
    legend = [("dot s1", "observed, with 95 % interval"), ("line chance", "perfect")]
    note = f"Bars: rows in each tenth, at most {most:,}. Expected calibration error {error:.3f}."
    return Chart("Calibration", plot.svg(), note, legend)


def two_histograms(
    title: str,
    groups: Sequence[tuple[str, Array]],
    *,
    x_label: str,
    span: tuple[float, float] | None = None,
    mark: float | None = None,
    note: str = "",
) -> Chart:
    """Histograms of one figure for each of a few groups, as shares of the group."""
    edges = _edges([values for _, values in groups], span)
    heights = [np.histogram(values, edges)[0] / max(len(values), 1) for _, values in groups]
    top = max(0.01, *(float(one.max()) for one in heights)) * 1.05
    said = "; ".join(f"{name}: {len(values):,} rows" for name, values in groups)
    plot = Plot(
        WIDTH, HEIGHT, (edges[0], edges[-1]), (0, top), f"{title}. {said}", (26, 14, 36, 42)
    )
    whose = "share of the group's rows" if len(groups) > 1 else "share of rows"
    plot.axes(x_label=x_label, y_label=whose, y_ticks=percents(top))
    if len(groups) == 1:
        plot.bars(edges, heights[0], "bar s1")
    else:
        _overlaid(plot, edges, heights)
    plot.baseline()
    if mark is not None and edges[0] < mark < edges[-1]:
        plot.segment((mark, 0), (mark, top), "line chance")
    legend = [
        (f"bar s{place}", f"{cut(name)} ({len(values):,})")
        for place, (name, values) in enumerate(groups, 1)
    ]
    return Chart(title, plot.svg(), note, legend if len(groups) > 1 else ())


def _overlaid(plot: Plot, edges: Array, heights: Sequence[Array]) -> None:
    """Histograms over each other: all areas first, then all outlines."""
    for place, shares in enumerate(heights, 1):
        plot.bars(edges, shares, f"bar s{place} light", gap=0)
    for place, shares in enumerate(heights, 1):
        plot.outline(edges, shares, f"line s{place} thin")


def _edges(arrays: Sequence[Array], span: tuple[float, float] | None) -> npt.NDArray[np.float64]:
    values = np.concatenate([np.asarray(one, dtype=float) for one in arrays])
    low, high = span or (float(values.min()), float(values.max()))
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, 25)


def percents(top: float, count: int = 4) -> list[tuple[float, str]]:
    """Ticks for shares from 0 on."""
    return [(value, percent(value)) for value in ticks(0, top, count)]


def scatter(
    title: str,
    xs: Array,
    ys: Array,
    *,
    x_label: str,
    y_label: str,
    diagonal: bool = False,
    level: float | None = None,
    note: str = "",
) -> Chart:
    """One figure over another: dots, or cells that are the darker the more rows they hold."""
    x_range, y_range = _padded(xs), _padded(ys)
    if diagonal:
        x_range = y_range = (min(x_range[0], y_range[0]), max(x_range[1], y_range[1]))
    label = f"{title}: {y_label} over {x_label}, {len(xs):,} rows"
    plot = Plot(WIDTH, HEIGHT, x_range, y_range, label, (26, 14, 36, 50))
    plot.axes(x_label=x_label, y_label=y_label)
    if len(xs) <= _DOTS:
        plot.points(xs, ys, "dot s1 faint")
    else:
        for strength, boxes in _density(xs, ys, x_range, y_range):
            plot.cells(boxes, f"cell d{strength}")
        note = f"{note} The darker a cell, the more rows it holds.".strip()
    if diagonal:
        plot.segment((x_range[0], x_range[0]), (x_range[1], x_range[1]), "line chance")
    if level is not None:
        plot.segment((x_range[0], level), (x_range[1], level), "line chance")
    return Chart(title, plot.svg(), note)


def _padded(values: Array) -> tuple[float, float]:
    low, high = float(np.min(values)), float(np.max(values))
    margin = (high - low) * 0.04 or max(abs(low), 1.0) * 0.1
    return low - margin, high + margin


def _density(
    xs: Array, ys: Array, x_range: tuple[float, float], y_range: tuple[float, float]
) -> list[tuple[int, list[tuple[float, float, float, float]]]]:
    """Cells by strength, 1 to the number of levels, on a logarithmic scale of their rows."""
    counts, x_edges, y_edges = np.histogram2d(xs, ys, _CELLS, [list(x_range), list(y_range)])
    most = counts.max()
    found: dict[int, list[tuple[float, float, float, float]]] = {}
    for x, y in zip(*np.nonzero(counts), strict=True):
        share = np.log1p(counts[x, y]) / np.log1p(most)
        strength = max(1, int(np.ceil(share * _LEVELS)))
        box = (x_edges[x], y_edges[y], x_edges[x + 1] - x_edges[x], y_edges[y + 1] - y_edges[y])
        found.setdefault(strength, []).append(box)
    return sorted(found.items())


def importances(found: Importance) -> Chart:
    """Bars, longest first, with the span of the repeats."""
    shown = found.columns[:IMPORTANCES]
    high = max([0.0, *(one.high for one in shown)])
    low = min([0.0, *(one.low for one in shown)])
    span = (low, high if high > low else low + 1.0)
    rows = len(shown)
    width, row_height = 560, 22
    height = rows * row_height + 48
    best = shown[0]
    label = f"Permutation importance of {rows} columns; largest: {best.name}, {number(best.mean)}"
    plot = Plot(width, height, span, (rows, 0), label, (8, 52, 40, 158))
    digits = decimals(max(abs(one.mean) for one in shown))
    marks = ticks(*span, 5)
    for value in marks:
        plot.segment((value, 0), (value, rows), "grid")
        plot.text(plot.x(value), height - 24, number(value), anchor="middle")
    plot.text(
        (plot.x.start + plot.x.end) / 2, height - 6, found.unit, anchor="middle", css="t axis"
    )
    for place, one in enumerate(shown):
        _importance_bar(plot, place, one, digits)
    plot.segment((0, 0), (0, rows), "base")
    return Chart("", plot.svg())


def _importance_bar(plot: Plot, place: int, one: ColumnImportance, digits: int) -> None:
    start, end = sorted((0.0, one.mean))
    css = "bar s1" if one.mean > 0 else "bar quiet"
    plot.cells([(start, place + 0.8, end - start, -0.6)], css)
    middle = place + 0.5
    plot.segment((one.low, middle), (one.high, middle), "whisker")
    line = plot.y(middle) + 4
    plot.text(plot.x.start - 8, line, cut(one.name), anchor="end", css="t name")
    plot.text(plot.x(max(one.high, end)) + 6, line, fixed(one.mean, digits), css="t value")


def counts(title: str, names: Sequence[Any], shares: Sequence[tuple[str, Array]]) -> Chart:
    """How often each class occurs, for one or two groups of rows."""
    rows = len(names)
    height = max(rows * 30 + 30, 120)
    top = max(0.01, *(float(one.max()) for _, one in shares))
    label = f"{title}: " + "; ".join(f"{name}" for name, _ in shares)
    plot = Plot(WIDTH, height, (0, top), (rows, 0), label, (8, 60, 8, 110))
    for place, name in enumerate(names):
        deep = 0.7 / len(shares)
        for group, (_, one) in enumerate(shares):
            y = place + 0.15 + group * deep
            plot.cells([(0, y + deep, float(one[place]), -deep)], f"bar s{group + 1}")
            plot.text(
                plot.x(float(one[place])) + 6, plot.y(y + deep / 2) + 4, percent(float(one[place]))
            )
        plot.text(plot.x.start - 8, plot.y(place + 0.5) + 4, cut(str(name), 17), anchor="end")
    legend = [(f"bar s{place}", name) for place, (name, _) in enumerate(shares, 1)]
    return Chart(title, plot.svg(), "", legend if len(shares) > 1 else ())


def decimals(largest: float) -> int:
    """Decimals that show three digits of the largest of some numbers."""
    if not largest or not np.isfinite(largest):
        return 1
    return int(np.clip(2 - np.floor(np.log10(largest)), 0, 8))


def fixed(value: float, digits: int) -> str:
    """A number with so many decimals; nothing is never negative."""
    text = f"{value:,.{digits}f}"
    return (text[1:] if float(value) < 0 and not text.strip("-0.,") else text).replace("-", "−")


def cut(text: str, length: int = _NAME_LENGTH) -> str:
    """A name that has room beside a plot."""
    text = " ".join(str(text).split())
    return text if len(text) <= length else text[: length - 1] + "…"
