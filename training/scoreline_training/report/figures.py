"""Plots as inline SVG in the page's colours, drawn by scikit-learn and matplotlib; numbers as text."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup, escape
from sklearn.calibration import CalibrationDisplay
from sklearn.metrics import PredictionErrorDisplay, RocCurveDisplay

from scoreline_training.report.metrics import Array, NotMeasurable

SERIES = ("#0b6bb0", "#d9600b", "#00896b", "#b0478f", "#7a6a00", "#5a5fc7")
SOFT, RULE = "#5b6570", "#e1e5ea"
VARIABLES = {colour: f"series-{index}" for index, colour in enumerate(SERIES, 1)} | {RULE: "rule"}
"""The page's variables by the colours that matplotlib draws with; any other one becomes `soft`."""
STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.prop_cycle": f"cycler('color', {list(SERIES)})",
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 11,
    "grid.color": RULE,
    "legend.frameon": False,
    "path.simplify_threshold": 0.5,
    "svg.fonttype": "none",
    "text.parse_math": False,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
}
TO_THE_PAGE: dict[str, Any] = {
    r'<g id="[^"]*"': "<g",
    r"(\.\d)\d+": r"\1",
    r"\bfont[\w-]*: [^;\"]*;? ?": "",
    r"#\w{6}\b": lambda match: f"var(--{VARIABLES.get(match[0], 'soft')})",
}
"""Replacements in tags: ids that nothing refers to, decimals, and the font and colours of matplotlib."""
WIDTH, HEIGHT, DOTS = 460, 310, 400


class Plot(NamedTuple):
    """A plot with its title and a sentence below it."""

    title: str
    svg: Markup
    note: str = ""


def draw(title: str, paint: Callable[[Any], object], x: str, y: str, note: str = "") -> Plot:
    """Let `paint` draw on empty axes, and make inline SVG of them."""
    try:
        from matplotlib import style
        from matplotlib.figure import Figure
    except ImportError:
        advice = "Plots need matplotlib: pip install 'scoreline[training]'."
        raise NotMeasurable(advice) from None
    buffer = io.StringIO()
    # The salt keeps the ids of one plot apart from those of the others.
    with style.context(["default", STYLE, {"svg.hashsalt": title}]):
        sheet = Figure(figsize=(WIDTH / 72, HEIGHT / 72), facecolor="none")
        axes: Any = sheet.add_axes((0.13, 0.14, 0.85, 0.83), facecolor="none")
        axes.locator_params(nbins=5)
        paint(axes)
        axes.xaxis.set_major_formatter(lambda value, _: number(value))
        axes.yaxis.set_major_formatter(lambda value, _: number(value))
        axes.set(xlabel=x, ylabel=y, aspect="auto")
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        sheet.savefig(buffer, format="svg", metadata=nothing)
    # In front of it are namespaces, which HTML does without, and a style sheet for the whole page.
    svg = buffer.getvalue().split("</defs>", 1)[1].replace("xlink:href", "href")
    for pattern, replacement in TO_THE_PAGE.items():
        svg = re.sub(pattern + r"(?=[^<>]*>)", replacement, svg)
    words = escape(f"{title}: {y} over {x}. {note}")
    head = f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{words}">'
    return Plot(title, Markup(head + svg), note)  # noqa: S704 - matplotlib escapes


def ranking(
    display: Any,
    curves: Mapping[str, tuple[Array, Array]],
    at: tuple[float, float] | None,
    note: str,
) -> Plot:
    """ROC or precision–recall curves of (is positive, scores) by name, and where predict() stands."""

    def paint(axes: Any) -> None:
        for name, curve in curves.items():
            display.from_predictions(*curve, ax=axes, name=cut(name, 40))
        if at is not None:
            axes.plot(*at, "o", label="where predict() stands", color=SOFT, fillstyle="none")
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
        axes.legend()

    if display is RocCurveDisplay:
        return draw("ROC", paint, "false positive rate", "true positive rate", note)
    return draw("Precision–recall", paint, "recall", "precision", note)


def calibration(came_true: Array, probability: Array, of: str) -> Plot:
    """Share that came true over the probability, by tenths."""
    make, options = CalibrationDisplay.from_predictions, {"n_bins": 10, "name": "observed"}
    return draw(
        "Calibration",
        lambda axes: make(came_true, probability, ax=axes, **options),
        "predicted probability",
        f"share that is {of}",
    )


def histogram(title: str, groups: Mapping[str, Array], x: str, note: str = "") -> Plot:
    """The distribution of a number in a few groups, as shares of each group's rows."""
    values = list(groups.values())
    weights = [np.full(len(group), 1 / max(len(group), 1)) for group in values]
    labels = [f"{cut(name)} ({len(group):,})" for name, group in groups.items()]

    def paint(axes: Any) -> None:
        colours, shape = list(SERIES[: len(values)]), {"bins": 24, "histtype": "stepfilled"}
        axes.hist(values, weights=weights, label=labels, color=colours, alpha=0.5, **shape)
        axes.legend()

    return draw(title, paint, x, "share of rows", note)


def errors(title: str, kind: str, actual: Array, predicted: Array) -> Plot:
    """Labels, or residuals, over predictions, of a sample of rows."""
    options: dict[str, Any] = {
        "kind": kind,
        "subsample": min(DOTS, len(actual)),
        "random_state": 0,
        "scatter_kwargs": {"color": SERIES[0], "alpha": 0.5, "linewidths": 0},
        "line_kwargs": {"color": SOFT},
    }
    return draw(
        title,
        lambda axes: PredictionErrorDisplay.from_predictions(actual, predicted, ax=axes, **options),
        "predicted",
        "actual" if kind == "actual_vs_predicted" else "actual − predicted",
        f"A sample of {DOTS} rows." if len(actual) > DOTS else "",
    )


def number(value: float) -> str:
    """A number with three digits that count, or all of them before the decimal mark."""
    is_whole = float(value).is_integer() or abs(value) >= 1000
    return f"{value:,.0f}" if is_whole and abs(value) < 1e7 else f"{value:.3g}"


def figure(value: float) -> str:
    """A metric with three decimals, fewer if it is large; zero is never negative."""
    return f"{value:z,.{3 if abs(value) < 10 else 1 if abs(value) < 1000 else 0}f}"


def cut(text: object, length: int = 24) -> str:
    """A name that has room beside a plot, without line breaks and control characters."""
    words = " ".join(
        "".join(character if character.isprintable() else " " for character in str(text)).split()
    )
    return words if len(words) <= length else words[: length - 1] + "…"
