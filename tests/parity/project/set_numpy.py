"""Sets how numpy treats overflows as soon as it is imported."""

import numpy as np

np.seterr(all="raise")


def squares(frame):
    """Squares, and zeros where they overflow."""
    values = frame.to_numpy(float)
    try:
        return np.exp(values)
    except FloatingPointError:
        return np.zeros_like(values)
