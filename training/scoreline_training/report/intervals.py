"""How exactly a figure is known from so many rows: 95 % intervals in closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

_Z = 1.96

Interval = tuple[float, float]


def wilson(share: float, rows: int) -> Interval:
    """Of a share of rows (Wilson's score interval)."""
    centre = (share + _Z**2 / (2 * rows)) / (1 + _Z**2 / rows)
    spread = share * (1 - share) / rows + _Z**2 / (4 * rows**2)
    half = _Z / (1 + _Z**2 / rows) * math.sqrt(max(0.0, spread))
    return max(0.0, centre - half), min(1.0, centre + half)


def of_auc(area: float, positive: int, negative: int) -> Interval:
    """Of the area under a ROC curve (Hanley and McNeil 1982)."""
    one, two = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (positive - 1) * (one - area**2) + (negative - 1) * (two - area**2)
    half = _Z * math.sqrt(max(0.0, spread) / (positive * negative))
    return max(0.0, area - half), min(1.0, area + half)


def of_average_precision(precision: float, positive: int) -> Interval:
    """Of the average precision (the logit interval of Boyd, Eng and Page 2013)."""
    if not 0 < precision < 1:
        return wilson(precision, positive)
    centre = math.log(precision / (1 - precision))
    half = _Z / math.sqrt(positive * precision * (1 - precision))
    return float(expit(centre - half)), float(expit(centre + half))


def of_mean(values: npt.NDArray[Any]) -> Interval:
    """Of a mean over rows, by the normal distribution."""
    mean = float(np.mean(values))
    half = _Z * float(np.std(values)) / math.sqrt(len(values))
    return mean - half, mean + half


def of_mean_of_shares(shares: Sequence[float], rows: Sequence[int]) -> Interval:
    """Of the mean of shares that are each about other rows, by the normal distribution."""
    spread = sum(one * (1 - one) / count for one, count in zip(shares, rows, strict=True))
    mean, half = float(np.mean(shares)), _Z * math.sqrt(spread) / len(shares)
    return max(0.0, mean - half), min(1.0, mean + half)
