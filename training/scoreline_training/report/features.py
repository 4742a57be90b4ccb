"""How the values of a column are distributed, in training and among the held-out rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from scoreline_artifacts import Column, ColumnType

SAMPLED_ROWS = 20_000
BINS = 24
BARS = 6
"""Values of a category that get a bar of their own."""
_FEW = 12
"""Different whole numbers that still get a bar each."""
_SMALL = 30
"""Different texts up to which a column is drawn as categories, not by length."""
_CLIPPED = 0.01
"""Share at either end that is left out of the drawing when it would squeeze all others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """One column's values, as shares of the rows where one is there."""

    column: Column
    edges: npt.NDArray[np.float64] | None = None
    """Of the bins, for what is drawn as a histogram."""
    labels: tuple[str, ...] = ()
    """Of the bars, for what is drawn as bars."""
    train: npt.NDArray[np.float64]
    test: npt.NDArray[np.float64] | None = None
    missing: float
    """Share of the training rows without a value."""
    missing_test: float | None = None
    distinct: int
    what: str = ""
    """What is drawn if it is not the value itself, such as the length of a text."""
    clipped: bool = False
    """Whether extreme values lie outside the drawing."""
    distance: float | None = None
    """Largest difference of the cumulative shares (Kolmogorov–Smirnov), or half the sum of the
    differences of the shares, between training and held-out rows; 0 for equal, 1 for disjoint."""


def distribution(
    column: Column, train: pd.Series[Any], test: pd.Series[Any] | None
) -> Distribution:
    """Describe a column; a sample of its rows if there are many."""
    there = train.dropna()
    there_test = None if test is None else test.dropna()
    shares: dict[str, Any] = {
        "column": column,
        "missing": _missing(train),
        "missing_test": None if test is None else _missing(test),
        "distinct": int(there.nunique()),
    }
    if column.type in (ColumnType.CATEGORY, ColumnType.BOOLEAN):
        return _bars(shares, there, there_test)
    if column.type is ColumnType.STRING:
        if shares["distinct"] <= _SMALL:
            return _bars(shares, there, there_test)
        lengths = None if there_test is None else _lengths(there_test)
        return _histogram(shares | {"what": "characters"}, _lengths(there), lengths)
    if column.type is ColumnType.DATETIME:
        return _histogram(
            shares | {"what": "date"},
            _seconds(there),
            None if test is None else _seconds(there_test),
        )
    return _histogram(shares, there, there_test)


def _missing(series: pd.Series[Any]) -> float:
    return float(series.isna().mean()) if len(series) else 0.0


def _as_text(series: pd.Series[Any]) -> pd.Series[Any]:
    # As Python's text: Arrow's, which pandas would choose, knows no lone surrogates.
    return pd.Series([str(one) for one in series], dtype=object)


def _lengths(series: pd.Series[Any]) -> npt.NDArray[np.float64]:
    return np.array([len(str(one)) for one in series], dtype=np.float64)


def _seconds(series: Any) -> pd.Series[Any]:
    """Points in time as seconds since 1970, UTC."""
    utc = pd.to_datetime(series, utc=True)
    return (utc - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)


def _finite(series: Any) -> npt.NDArray[np.float64]:
    array = np.asarray(series, dtype=np.float64)
    return array[np.isfinite(array)]


def _histogram(shares: dict[str, Any], train: Any, test: Any) -> Distribution:
    values = _finite(train)
    others = None if test is None else _finite(test)
    if len(values) == 0:
        return Distribution(train=np.zeros(0), **shares)
    edges, clipped = _edges(values)
    return Distribution(
        edges=edges,
        train=_counted(values, edges),
        test=None if others is None or not len(others) else _counted(others, edges),
        clipped=clipped,
        distance=None if others is None else _ks(values, others),
        **shares,
    )


def _edges(values: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], bool]:
    low, high = float(values.min()), float(values.max())
    if low == high:
        margin = max(abs(low), 1.0) / 2
        return np.linspace(low - margin, high + margin, 4), False
    inner_low, inner_high = np.quantile(values, [_CLIPPED, 1 - _CLIPPED])
    clipped = bool(inner_high > inner_low and high - low > 3 * (inner_high - inner_low))
    if clipped:
        low, high = float(inner_low), float(inner_high)
    if (values == np.round(values)).all() and high - low < 2**53:
        return _whole_edges(low, high), clipped
    return np.linspace(low, high, BINS + 1), clipped


def _whole_edges(low: float, high: float) -> npt.NDArray[np.float64]:
    """Bins that hold equally many whole numbers each, or a comb would show where none is."""
    low, high = np.floor(low), np.ceil(high)
    width = 1 if high - low < _FEW else max(1, int(np.ceil((high - low + 1) / BINS)))
    return np.arange(low - 0.5, high + width + 0.5, width)


def _counted(
    values: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    return np.histogram(values, edges)[0] / len(values)


def _ks(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float | None:
    if not len(other):
        return None
    places = np.concatenate([one, other])
    shares = [
        np.searchsorted(np.sort(values), places, side="right") / len(values)
        for values in (one, other)
    ]
    return float(np.abs(shares[0] - shares[1]).max())


def _bars(shares: dict[str, Any], train: Any, test: Any) -> Distribution:
    counted = _as_text(train).value_counts(sort=False)
    counted = counted.sort_index().sort_values(ascending=False, kind="stable")
    counted = counted[counted > 0] / max(len(train), 1)
    counted_test = None
    if test is not None and len(test):
        counted_test = _as_text(test).value_counts() / len(test)
    shown = list(counted.index[:BARS])
    others = len(counted) - len(shown)
    labels = [str(one) for one in shown] + ([f"{others:,} others"] if others > 0 else [])
    return Distribution(
        labels=tuple(labels),
        train=_with_rest(counted, shown, others > 0),
        test=None if counted_test is None else _with_rest(counted_test, shown, others > 0),
        distance=None if counted_test is None else _half_sum(counted, counted_test),
        **shares,
    )


def _with_rest(shares: Any, shown: list[Any], rest: bool) -> npt.NDArray[np.float64]:
    found = [float(shares.get(name, 0.0)) for name in shown]
    return np.array([*found, max(0.0, float(shares.sum()) - sum(found))] if rest else found)


def _half_sum(one: Any, other: Any) -> float:
    return float(one.subtract(other, fill_value=0.0).abs().sum() / 2)
