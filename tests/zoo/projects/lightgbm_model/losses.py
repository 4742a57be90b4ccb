import numpy as np

FACTOR = 1.5


def asymmetric(y, predicted):
    residual = predicted - y
    return np.where(residual > 0, FACTOR, 1) * residual, np.where(residual > 0, FACTOR, 1)


def missed(y, predicted):
    return "missed", float(np.mean(np.abs(y - predicted) > 10)), False
