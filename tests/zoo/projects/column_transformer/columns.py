from sklearn.base import BaseEstimator, TransformerMixin


def amounts(frame):
    return [name for name in frame.columns if name.startswith("amount")]


class Spread(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return (X["amount_in"] - X["amount_out"]).to_frame("spread")
