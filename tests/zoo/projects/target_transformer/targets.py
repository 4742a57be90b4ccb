import numpy as np

SHIFT = 10


def to_log(y):
    return np.log(y + SHIFT)


def from_log(y):
    return np.exp(y) - SHIFT
