"""Turns warnings into errors as soon as it is imported, and back where it expects one."""

import warnings

import numpy as np

warnings.simplefilter("error")


def _logarithm(value):
    try:
        return float(np.log(np.float64(value)))
    except RuntimeWarning:
        return 0.0


def logarithms(frame):
    """Logarithms; where numpy warns of one, zeros."""
    return frame.map(_logarithm)
