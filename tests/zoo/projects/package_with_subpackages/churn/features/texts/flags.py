import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from ...constants import BUSY_CALLS
from ..texts import words


class NoteFlags(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.words_ = words.BAD[:BUSY_CALLS]
        return self

    def transform(self, X):
        return np.column_stack([X["note"].str.contains(word) for word in self.words_])
