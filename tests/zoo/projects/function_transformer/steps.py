import numpy as np
from sklearn.feature_selection import f_regression


def RULE(column):
    return column.clip(lower=0)


def lagged(frame, names, rule):
    return frame[names].assign(**{f"{name}_up": rule(frame[name]) for name in names})


def names_out(transformer, names):
    return np.array(
        [*transformer.kw_args["names"], *(f"{name}_up" for name in transformer.kw_args["names"])]
    )


def only_named(frame, prefix):
    return frame[[name for name in frame.columns if name.startswith(prefix)]]


def score(X, y):
    return f_regression(X, y)[0]
