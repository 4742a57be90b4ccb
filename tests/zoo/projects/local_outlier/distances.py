import numpy as np


def stretched(one, other, power):
    return (np.abs(one - other) ** power).sum()
