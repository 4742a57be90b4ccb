from sklearn.base import BaseEstimator, TransformerMixin


class ByRange(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.low_, self.high_ = X.min(), X.max()
        return self

    def transform(self, X):
        return (X - self.low_) / (self.high_ - self.low_)
