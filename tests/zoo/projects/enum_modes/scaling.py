import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from modes import Checks, Mode


class Scaler(TransformerMixin, BaseEstimator):
    def __init__(self, modes, checks=Checks.FINITE):
        self.modes = modes
        self.checks = checks

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        if Checks.POSITIVE in self.checks:
            assert (X > 0).all(axis=None)
        return np.column_stack([self._scaled(X[name], mode) for name, mode in self.modes.items()])

    def _scaled(self, column, mode):
        match mode:
            case Mode.LOG:
                return np.log(column)
            case Mode.ROOT if mode is Mode.ROOT:
                return column**mode.power
