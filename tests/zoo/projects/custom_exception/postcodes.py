import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

import problems
from parsing import area


class AreaOfPostcode(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return np.array([[self._area(code)] for code in X["postcode"]])

    def _area(self, code):
        try:
            return area(code)
        except problems.TooShort:
            return -2
        except problems.PostcodeError as error:
            return -len(error.code)
