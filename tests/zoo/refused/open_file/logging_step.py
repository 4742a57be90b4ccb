from sklearn.base import BaseEstimator, TransformerMixin


class Logging(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.log_ = open("seen.log", "w")
        return self

    def transform(self, X):
        self.log_.write(f"{len(X)}\n")
        return X
