"""The plots of a report: matplotlib's figures as inline SVG, in one style and the page's colours."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup, escape
from scipy import stats
from sklearn.calibration import CalibrationDisplay
from sklearn.metrics import RocCurveDisplay

from scoreline_artifacts import Column, ColumnType
from scoreline_training.report.metrics import Array, NotMeasurable, interval_of_share

SERIES = ("#0b6bb0", "#d9600b", "#00896b", "#b0478f", "#7a6a00", "#5a5fc7")
SOFT, RULE, PAPER = "#5b6570", "#e1e5ea", "#fffffe"
VARIABLES = {RULE: "rule", PAPER: "paper"} | {
    colour: f"series-{number}" for number, colour in enumerate(SERIES, 1)
}
"""The page's variables by the colours that matplotlib draws with; any other one becomes `soft`."""
STYLE = {
    "font.size": 11,
    "path.simplify_threshold": 0.5,
    "svg.fonttype": "none",
    "text.parse_math": False,
}
TO_THE_PAGE: dict[str, Any] = {
    r'<g id="[^"]*"': "<g",
    r"(\.\d)\d+": r"\1",
    r"\bfont[\w-]*: [^;\"]*;? ?": "",
    r"#\w{6}\b": lambda found: f"var(--{VARIABLES.get(found[0], 'soft')})",
}
"""What is replaced in tags: ids that nothing refers to, decimals, and the font and colours of matplotlib."""
BINS, DOTS, BARS, FEW_TEXTS = 24, 400, 6, 30
SMALL: dict[str, Any] = {"size": "small", "pixels": (250, 132)}


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot with its title, a legend, and a sentence below it."""

    title: str
    svg: Markup
    note: str = ""
    legend: Sequence[tuple[str, str, str]] = ()
    """Kind of mark, variable of its colour, and what it stands for."""
    size: str = "medium"


def draw(
    title: str,
    paint: Callable[[Any], object],
    *,
    x: str = "",
    y: str = "",
    note: str = "",
    size: str = "medium",
    pixels: tuple[int, int] = (460, 310),
    margins: tuple[int, int, int, int] = (26, 14, 36, 50),
) -> Plot:
    """Let `paint` draw on empty axes, and make inline SVG of them."""
    try:
        from matplotlib import colors, style
        from matplotlib.figure import Figure
    except ImportError:
        advice = "Plots need matplotlib: pip install 'scoreline[training]'."
        raise NotMeasurable(advice) from None
    (width, height), (top, right, bottom, left) = pixels, margins
    box = left / width, bottom / height, 1 - (left + right) / width, 1 - (top + bottom) / height
    written = io.StringIO()
    # The salt keeps the ids of one plot apart from those of the others.
    with style.context(["default", STYLE, {"svg.hashsalt": f"{size} {title} {x} {y}"}]):
        sheet = Figure(figsize=(width / 72, height / 72), facecolor="none")
        axes: Any = sheet.add_axes(box, facecolor="none")
        axes.set_prop_cycle(color=SERIES)
        axes.grid(axis="y", color=RULE)
        axes.locator_params(nbins=5)
        axes.set_axisbelow(True)
        axes.spines[["left", "right", "top"]].set_visible(False)
        axes.tick_params(length=0)
        axes.xaxis.set_major_formatter("{x:,.6g}")
        axes.yaxis.set_major_formatter("{x:,.6g}")
        paint(axes)
        if axes.get_legend() is not None:
            axes.get_legend().remove()
        axes.set(xlabel=x, ylabel="", aspect="auto")
        sheet.text(0, 1 - 14 / height, y)
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        sheet.savefig(written, format="svg", metadata=nothing)
    legend = []
    for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
        is_line = hasattr(handle, "get_marker")
        colour = colors.to_hex(handle.get_color() if is_line else handle.get_edgecolor())
        kind = {"-": "line", "None": "dot"}.get(handle.get_linestyle(), "dashed")
        legend.append((kind if is_line else "box", VARIABLES.get(colour, "soft"), label))
    # In front of it are namespaces, which HTML does without, and a style sheet for the whole page.
    svg = written.getvalue().split("</defs>", 1)[1].replace("xlink:href", "href")
    for pattern, replacement in TO_THE_PAGE.items():
        svg = re.sub(pattern + r"(?=[^<>]*>)", replacement, svg)
    words = escape("; ".join([title, *(label for _, _, label in legend), note]))
    head = f'<svg class="plot" viewBox="0 0 {width} {height}" role="img" aria-label="{words}">'
    return Plot(title, Markup(head + svg), note, legend, size)  # noqa: S704 - matplotlib escapes


def ranking(
    display: Any,
    curves: Sequence[tuple[str, Array, Array]],
    before: tuple[str, Array, Array] | None = None,
    at: tuple[float, float] | None = None,
    note: str = "",
) -> Plot:
    """ROC or precision-recall curves of (name, is positive, scores), and where predict() stands."""
    is_roc, base = display is RocCurveDisplay, float(curves[0][1].mean())

    def paint(axes: Any) -> None:
        for name, positive, scores in curves:
            display.from_predictions(positive, scores, ax=axes, name=name)
        if before is not None:
            display.from_predictions(*before[1:], ax=axes, name=before[0])
            axes.lines[-1].set(color=SOFT, linestyle="--")
        if is_roc or len(curves) == 1:
            axes.plot([0, 1], [0, 1] if is_roc else [base, base], ":", color=SOFT, linewidth=1)
        if at is not None:
            ring = {"color": SOFT, "markerfacecolor": PAPER, "markeredgewidth": 2}
            axes.plot(*at, "o", label="where predict() stands", **ring)
        axes.set(xlim=(0, 1), ylim=(0, 1.02))

    if is_roc:
        return draw("ROC", paint, x="false positive rate", y="true positive rate", note=note)
    return draw("Precision–recall", paint, x="recall", y="precision", note=note)


def calibration(came_true: Array, probability: Array, of: str) -> Plot:
    """Share that came true over the probability, by tenths, with 95 % intervals."""
    tenths = np.minimum((probability * 10).astype(int), 9)
    bins = [(probability[tenths == one], came_true[tenths == one]) for one in np.unique(tenths)]
    error = sum(len(came) * abs(given.mean() - came.mean()) for given, came in bins) / len(tenths)

    def paint(axes: Any) -> None:
        name = "observed, with 95 % interval"
        CalibrationDisplay.from_predictions(came_true, probability, n_bins=10, ax=axes, name=name)
        for given, came in bins:
            axes.plot([given.mean()] * 2, interval_of_share(came), color=SOFT, linewidth=1.25)
        axes.set(xlim=(0, 1), ylim=(0, 1.02))

    note, y = f"Expected calibration error {error:.3f}.", f"share that is {of}"
    return draw("Calibration", paint, x="predicted probability", y=y, note=note)


def histogram(
    title: str,
    groups: Sequence[tuple[str, Array]],
    *,
    span: tuple[float, float] | None = None,
    mark: float | None = None,
    **options: Any,
) -> Plot:
    """How a figure is distributed in a few groups, as shares of each group's rows."""
    edges = np.histogram_bin_edges(np.concatenate([one for _, one in groups]), BINS, span)

    def paint(axes: Any) -> None:
        for place, (name, values) in enumerate(groups):
            label = f"{cut(name)} ({len(values):,})" if len(groups) > 1 else None
            _stairs(axes, values, edges, fill=True, color=SERIES[place], label=label)
        axes.margins(x=0)
        if mark is not None:
            axes.axvline(mark, color=SOFT, linestyle=":")

    return draw(title, paint, y="share of rows", **options)


def _stairs(axes: Any, values: Array, edges: Array, *, fill: bool, **options: Any) -> None:
    shares = np.histogram(values, edges)[0] / max(len(values), 1)
    if fill:
        axes.stairs(shares, edges, fill=True, color=options["color"], alpha=0.34)
    axes.stairs(shares, edges, linewidth=1.5, **options)
    axes.set_ylim(0, max(shares.max() * 1.05, axes.get_ylim()[1]))
    axes.yaxis.set_major_formatter(lambda share, _: percent(share))


def scatter(
    title: str, xs: Array, ys: Array, *, level: float | None = None, **options: Any
) -> Plot:
    """One figure over another, with a line at a level or else a diagonal; many rows as cells."""

    def paint(axes: Any) -> None:
        if len(xs) <= DOTS:
            axes.plot(xs, ys, "o", alpha=0.5, markersize=5, markeredgewidth=0)
        else:
            cells = axes.hexbin(xs, ys, gridsize=24, mincnt=1, linewidths=0)
            depth = np.log1p(cells.get_array()) / np.log1p(cells.get_array().max())
            cells.set(array=None, facecolor=SERIES[0], alpha=np.ceil(depth * 6) / 6)
        if level is None:
            ends = [
                min(*axes.get_xlim(), *axes.get_ylim()),
                max(*axes.get_xlim(), *axes.get_ylim()),
            ]
            axes.plot(ends, ends, ":", color=SOFT)
        else:
            axes.axhline(level, color=SOFT, linestyle=":")

    note = "The darker a cell, the more rows it holds." if len(xs) > DOTS else ""
    return draw(title, paint, note=note, margins=(26, 14, 36, 60), **options)


def bars(
    title: str,
    names: Sequence[str],
    values: Array,
    *,
    texts: Sequence[str],
    spans: tuple[Array, Array] | None = None,
    marks: Array | None = None,
    **options: Any,
) -> Plot:
    """A bar for each name, the first one on top; `spans` are whiskers' ends, `marks` a second value."""
    if spans is not None:
        pixels, margins = (560, 22 * max(len(names), 4) + 48), (8, 60, 40, 158)
        options |= {"size": "wide", "pixels": pixels, "margins": margins}
    low, high = (values, values) if spans is None else spans
    ends = np.maximum(high if marks is None else np.maximum(high, marks), 0.0)

    def paint(axes: Any) -> None:
        places = np.arange(len(names))
        axes.barh(places, values, 0.64, color=SERIES[0], alpha=0.34 if spans is None else 1.0)
        axes.hlines(places, low, high, color=SOFT, linewidth=1.25)
        if marks is not None:
            axes.plot(marks, places, "|", color=SERIES[1], markersize=14, markeredgewidth=2)
        for at, text in zip(zip(ends, places, strict=True), texts, strict=True):
            beside = {"xytext": (6, 0), "textcoords": "offset points"}
            axes.annotate(text, at, **beside, verticalalignment="center")
        axes.set_yticks(places, [cut(name) for name in names])
        axes.set(xlim=(min(0.0, *low), max(*ends, 1e-9)), ylim=(max(len(names), 4) - 0.5, -0.5))
        axes.grid(visible=False)
        axes.spines[["bottom"]].set_visible(False)
        if "x" not in options:
            axes.set_xticks([])

    return draw(title, paint, **options)


def column_values(column: Column, parts: Sequence[pd.Series[Any]]) -> Plot:
    """A column's values in training, and those of held-out rows, if there are any, over them."""
    there = [one.dropna() for one in parts if one.notna().any()]
    different, is_text = parts[0].nunique(), column.type is ColumnType.STRING
    facts = [column.type.value]
    if different < 2:
        facts.append("one value only" if different else "no value in any row")
    if parts[0].isna().any():
        facts.append(f"{percent(parts[0].isna().mean())} missing")
    if different == 0:
        return Plot(column.name, Markup(), " · ".join(facts), size="small")
    if is_text and different > FEW_TEXTS:
        facts.append(f"length in characters · {different:,} different")
    elif is_text or column.type in (ColumnType.CATEGORY, ColumnType.BOOLEAN):
        return _named_values(column.name, facts, there)
    return _number_values(column, facts, [_as_numbers(column.type, values) for values in there])


def _number_values(column: Column, facts: list[str], numbers: Sequence[Array]) -> Plot:
    """A histogram of numbers, lengths or moments, without extremes that would squeeze the others."""
    low, *inner, high = np.quantile(numbers[0], [0, 0.01, 0.99, 1])
    if inner[1] > inner[0] and high - low > 3 * (inner[1] - inner[0]):
        facts.append("extremes outside the drawing")
        low, high = inner
    edges = np.histogram_bin_edges(numbers[0], BINS, (low, high))
    if (numbers[0] == np.round(numbers[0])).all() and high - low < 2**53:
        # Bins that hold equally many whole numbers each, or gaps show where none are.
        width = max(1, np.ceil((high - low + 1) / BINS))
        edges = np.arange(np.floor(low) - 0.5, high + width + 0.5, width)
    if len(numbers) > 1:
        facts.append(f"difference {stats.ks_2samp(*numbers, method='asymp').statistic:.2f}")

    def paint(axes: Any) -> None:
        for place, values in enumerate(numbers):
            _stairs(axes, values, edges, fill=place == 0, color=SERIES[place])
        axes.locator_params(axis="y", nbins=3)
        if column.type is ColumnType.DATETIME:
            days = np.linspace(low, high, 5)[1::2]
            axes.set_xticks(days, [str(np.datetime64(int(day), "D")) for day in days])

    return draw(column.name, paint, note=" · ".join(facts), margins=(8, 8, 20, 36), **SMALL)


def _named_values(name: str, facts: list[str], there: Sequence[pd.Series[Any]]) -> Plot:
    """The most frequent values of a column, as bars."""
    # As Python's text: pandas' own cannot hold lone surrogates.
    texts = [pd.Series([str(one) for one in values], dtype=object) for values in there]
    shares = [one.value_counts(normalize=True).sort_index() for one in texts]
    frequent = shares[0].sort_values(ascending=False, kind="stable").index[:BARS]
    drawn = [one.reindex(frequent, fill_value=0.0).to_numpy() for one in shares]
    names = [cut(one, 15) for one in frequent]
    facts.append(f"{len(shares[0]):,} different")
    if rest := len(shares[0]) - len(names):
        names.append(f"{rest:,} others")
        drawn = [np.append(one, max(0.0, 1 - one.sum())) for one in drawn]
    if len(shares) > 1:
        difference = shares[0].subtract(shares[1], fill_value=0.0).abs().sum() / 2
        facts.append(f"difference {difference:.2f}")
    options: dict[str, Any] = SMALL | {"note": " · ".join(facts), "margins": (4, 44, 4, 96)}
    options |= {
        "texts": [percent(one) for one in drawn[0]],
        "marks": drawn[1] if drawn[1:] else None,
    }
    return bars(name, names, drawn[0], **options)


def _as_numbers(kind: ColumnType, values: pd.Series[Any]) -> Array:
    """Lengths of texts, days since 1970 of moments, else the finite numbers themselves."""
    if kind is ColumnType.STRING:
        return np.array([len(str(one)) for one in values], dtype=float)
    if kind is ColumnType.DATETIME:
        values = (pd.to_datetime(values, utc=True) - pd.Timestamp(0, tz="UTC")) / pd.Timedelta("1D")
    numbers: Array = np.asarray(values, dtype=float)
    return numbers[np.isfinite(numbers)]


def number(value: float) -> str:
    """A number with three digits that count, or all of them before the decimal mark."""
    is_whole = float(value).is_integer() or abs(value) >= 1000
    text = f"{value:,.0f}" if is_whole and abs(value) < 1e7 else f"{value:.3g}"
    return text.replace("-", "−")


def figure(value: float) -> str:
    """A figure with three decimals, fewer if it is large; nothing is never negative."""
    decimals = 3 if abs(value) < 10 else 1 if abs(value) < 1000 else 0
    return f"{value:z,.{decimals}f}".replace("-", "−")


def percent(share: float) -> str:
    """A share of rows; a small one is not nothing."""
    if 0 < share < 0.001:
        return "<0.1 %"
    return f"{share * 100:.{int(share < 0.1)}f}".replace(".0", "") + " %"


def cut(text: object, length: int = 24) -> str:
    """A name that has room beside a plot, without line breaks and control characters."""
    words = " ".join("".join(one if one.isprintable() else " " for one in str(text)).split())
    return words if len(words) <= length else words[: length - 1] + "…"
