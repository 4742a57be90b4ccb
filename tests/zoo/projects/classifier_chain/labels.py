import numpy as np


def labels_of(X, y):
    return np.column_stack([y, X["mean radius"] > 14, X["mean texture"] > 18]).astype(int)
