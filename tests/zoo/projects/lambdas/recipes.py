import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

logs = lambda frame: np.log1p(frame)
OTHERS = {"halve": lambda frame: frame * HALF}
HALF = 0.5


class Recipes(TransformerMixin, BaseEstimator):
    keep = lambda self, frame: frame  # noqa

    def __init__(self, recipes):
        self.recipes = recipes

    def fit(self, X, y=None):
        self.more_ = [lambda frame, i=i: frame.iloc[:, i] ** (2 + HALF) for i in range(2)]
        return self

    def transform(self, X):
        columns = [recipe(X) for recipe in [*self.recipes.values(), *self.more_]]
        return np.column_stack([self.keep(X), *columns])
