"""Sets how numpy treats overflows as soon as it is imported."""

import numpy as np

np.seterr(all="raise")


def _grown(value):
    try:
        return float(np.exp(np.float64(value)))
    except FloatingPointError:
        return 0.0


def squares(frame):
    """Powers of e, and zeros where they overflow."""
    return frame.map(_grown)
