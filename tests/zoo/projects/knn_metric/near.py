import numpy as np

SOFT = 0.1


def canberra(a, b):
    return (np.abs(a - b) / (np.abs(a) + np.abs(b) + SOFT)).sum()


gentle = lambda distances: 1 / (SOFT + distances)
