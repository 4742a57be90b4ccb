"""Turns warnings into errors as soon as it is imported, and back where it expects one."""

import warnings

import numpy as np

warnings.simplefilter("error")


def logarithms(frame):
    """Logarithms; where numpy warns of one, zeros."""
    try:
        return np.log(frame.to_numpy(float))
    except RuntimeWarning:
        return np.zeros(frame.shape)
