from sklearn.base import BaseEstimator, TransformerMixin


class Squared(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X.assign(bmi2=X["bmi"] ** 2)
