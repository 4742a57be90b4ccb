"""Thresholds for doubles send every number where scikit-learn sends it, which rounds it to 32 bits first."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scoreline_training.export.arithmetic import thresholds

_LARGEST = float(np.finfo(np.float32).max) / 2


@given(
    st.floats(-_LARGEST, _LARGEST)
    | st.floats(-1e-37, 1e-37)
    | st.floats(-1e6, 1e6, width=32)
    | st.just(0.0)
)
def test_a_number_beside_a_threshold_goes_the_same_way(threshold: float) -> None:
    found = float(thresholds(SimpleNamespace(threshold=[threshold]))[0])
    near = np.float32(threshold)
    up, down = np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))
    middles = [(float(near) + float(one)) / 2 for one in (up, down)]
    numbers = np.array([threshold, float(near), float(up), float(down), *middles, found])
    numbers = np.concatenate(
        [numbers, np.nextafter(numbers, np.inf), np.nextafter(numbers, -np.inf)]
    )
    assert ((numbers <= found) == (numbers.astype(np.float32).astype(float) <= threshold)).all()
