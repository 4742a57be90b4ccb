import numpy as np


def squared(y, predicted):
    return predicted - y, np.ones_like(y)
