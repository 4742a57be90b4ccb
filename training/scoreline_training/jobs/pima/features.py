"""The features of the Pima pipeline: plain functions, so that a worker needs nothing else of us."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def is_at_least(values: Any, *, years: int) -> npt.NDArray[np.float64]:
    """1.0 where an age in years is at least `years`, else 0.0; same shape as the input."""
    return (np.asarray(values, dtype=np.float64) >= years).astype(np.float64)
