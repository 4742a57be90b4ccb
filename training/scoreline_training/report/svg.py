"""A plot as inline SVG: two scales, marks, axes; colours come from the page's style sheet.

Drawn here rather than by a plotting library, because publish() draws a report every time: this costs
milliseconds and some kilobytes where a library costs most of a second and several hundred; and marks
that carry a class instead of a colour follow the reader's light or dark mode.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

Numbers = Sequence[float] | npt.NDArray[Any]

POINTS_OF_A_LINE = 240
"""More are not to be told apart at the size of a plot."""


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to pixels, linearly."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        span = self.high - self.low
        share = 0.5 if span == 0 else (value - self.low) / span
        return self.start + share * (self.end - self.start)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round values (1, 2 or 5 times a power of ten) within a range, about as many as asked for."""
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return [low]
    power = 10.0 ** math.floor(math.log10(span / count))
    steps = [one * power for one in (1, 2, 5, 10)]
    step = min(steps, key=lambda one: abs(math.log(span / one / count)))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def number(value: float) -> str:
    """A number as people write it: few digits, thousands apart, no exponent where none is needed."""
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if size != 0 and (size >= 1e7 or size < 1e-4):
        return f"{value:.3g}".replace("e+0", "e").replace("e-0", "e−").replace("-", "−")
    digits = 0 if size >= 1000 or float(value).is_integer() else max(0, 3 - _magnitude(size))
    text = f"{value:,.{digits}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return text.replace("-", "−")


def _magnitude(size: float) -> int:
    return math.floor(math.log10(size)) + 1 if size else 1


def percent(share: float) -> str:
    """A share as a percentage; what is not nothing never reads 0 %."""
    if 0 < share < 0.0005:
        return "<0.1 %"
    digits = 0 if share == 0 or share >= 0.0995 else 1
    return f"{share * 100:.{digits}f}".removesuffix(".0") + " %"


@dataclass(slots=True)
class Plot:
    """A drawing area with margins, to which marks are added in order."""

    width: float
    height: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    label: str
    """What somebody who cannot see it is told."""
    margins: tuple[float, float, float, float] = (14, 10, 34, 40)
    """Top, right, bottom, left."""
    x: Scale = field(init=False)
    y: Scale = field(init=False)
    _parts: list[Markup] = field(default_factory=list)

    def __post_init__(self) -> None:
        top, right, bottom, left = self.margins
        self.x = Scale(*self.x_range, left, self.width - right)
        self.y = Scale(*self.y_range, self.height - bottom, top)

    def axes(
        self,
        *,
        x_label: str = "",
        y_label: str = "",
        x_ticks: Sequence[tuple[float, str]] | None = None,
        y_ticks: Sequence[tuple[float, str]] | None = None,
    ) -> None:
        """Grid lines and what they stand for; what the axes mean."""
        for value, text in _labelled(self.y_range, 4) if y_ticks is None else y_ticks:
            self.segment((self.x_range[0], value), (self.x_range[1], value), "grid")
            self.text(self.x.start - 6, self.y(value) + 3.5, text, anchor="end")
        bottom = self.height - self.margins[2]
        for value, text in _labelled(self.x_range, 5) if x_ticks is None else x_ticks:
            self.text(self.x(value), bottom + 14, text, anchor=self._anchor(value, text))
        if x_label:
            middle = (self.x.start + self.x.end) / 2
            self.text(middle, self.height - 3, x_label, anchor="middle", css="t axis")
        if y_label:
            self.text(0, 9, y_label, css="t axis")

    def baseline(self) -> None:
        """The line that bars stand on."""
        low = self.y_range[0]
        self.segment((self.x_range[0], low), (self.x_range[1], low), "base")

    def segment(self, start: tuple[float, float], end: tuple[float, float], css: str) -> None:
        """A straight line between two points of the data."""
        ends = (self.x(start[0]), self.y(start[1]), self.x(end[0]), self.y(end[1]))
        x1, y1, x2, y2 = map(_px, ends)
        mark = Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>')
        self._parts.append(mark.format(css, x1, y1, x2, y2))

    def line(self, xs: Numbers, ys: Numbers, css: str) -> None:
        """A line through points, thinned to what can be seen."""
        kept = thinned(len(xs))
        self._path(self._points(np.asarray(xs)[kept], np.asarray(ys)[kept]), css)

    def outline(self, edges: Numbers, heights: Numbers, css: str) -> None:
        """A histogram's upper edge, as steps."""
        xs = np.repeat(np.asarray(edges, dtype=float), 2)
        ys = np.concatenate([[self.y_range[0]], np.repeat(heights, 2), [self.y_range[0]]])
        self._path(self._points(xs, ys), css)

    def bars(self, edges: Numbers, heights: Numbers, css: str, *, gap: float = 1) -> None:
        """A histogram's bars, as one path."""
        shapes = []
        for left, right, height in zip(edges[:-1], edges[1:], heights, strict=True):
            if height > 0:
                x, wide = self.x(left), self.x(right) - self.x(left)
                inset = min(gap, wide / 4)
                base, top = self.y(self.y_range[0]), self.y(height)
                shapes.append(_box(x + inset / 2, top, wide - inset, base - top))
        self._path("".join(shapes), css)

    def cells(self, boxes: Sequence[tuple[float, float, float, float]], css: str) -> None:
        """Rectangles of the data (x, y, width, height), as one path."""
        shapes = [
            _box(
                self.x(x),
                self.y(y + high),
                self.x(x + wide) - self.x(x),
                self.y(y) - self.y(y + high),
            )
            for x, y, wide, high in boxes
        ]
        self._path("".join(shapes), css)

    def points(self, xs: Numbers, ys: Numbers, css: str, *, radius: float = 2.5) -> None:
        """Dots."""
        mark = Markup('<circle class="{}" cx="{}" cy="{}" r="{}"/>')
        for x, y in zip(xs, ys, strict=True):
            self._parts.append(mark.format(css, _px(self.x(x)), _px(self.y(y)), _px(radius)))

    def text(self, x: float, y: float, text: str, *, anchor: str = "start", css: str = "t") -> None:
        """Words, at pixels."""
        mark = Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>')
        self._parts.append(mark.format(css, _px(x), _px(y), anchor, text))

    def svg(self) -> Markup:
        """The whole drawing, as it stands in a page."""
        head = Markup('<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">')
        opening = head.format(_px(self.width), _px(self.height), self.label)
        return opening + Markup("").join(self._parts) + Markup("</svg>")

    def _points(self, xs: Numbers, ys: Numbers) -> str:
        places = (f"{_px(self.x(x))} {_px(self.y(y))}" for x, y in zip(xs, ys, strict=True))
        return "M" + "L".join(places)

    def _path(self, path: str, css: str) -> None:
        if path:
            self._parts.append(Markup('<path class="{}" d="{}"/>').format(css, path))

    def _anchor(self, value: float, text: str) -> str:
        """Text at the right or left rim must not leave the drawing."""
        half = len(text) * 3
        if self.x(value) + half > self.width:
            return "end"
        return "start" if self.x(value) - half < 0 else "middle"


def thinned(count: int) -> npt.NDArray[np.intp]:
    """Places of the points of a line that are drawn: the first, the last, and some between."""
    places = np.linspace(0, count - 1, min(count, POINTS_OF_A_LINE))
    return np.unique(places.round().astype(np.intp))


def _labelled(span: tuple[float, float], count: int) -> list[tuple[float, str]]:
    return [(value, number(value)) for value in ticks(*span, count)]


def _box(x: float, y: float, wide: float, high: float) -> str:
    return f"M{_px(x)} {_px(y)}h{_px(wide)}v{_px(high)}h{_px(-wide)}z"


def _px(value: float) -> str:
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text
