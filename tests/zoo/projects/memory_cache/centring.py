from sklearn.base import BaseEstimator, TransformerMixin


class Centre(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.mean_ = X.mean()
        return self

    def transform(self, X):
        return X - self.mean_
