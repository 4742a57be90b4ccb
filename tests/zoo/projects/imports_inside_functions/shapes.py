from sklearn.base import BaseEstimator, TransformerMixin


class Petals(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        return self

    def transform(self, X):
        import pandas as pd

        from geometry.ellipses import area
        import geometry.lengths as lengths

        petal = X["petal length (cm)"], X["petal width (cm)"]
        return pd.DataFrame({"area": area(*petal), "diagonal": lengths.diagonal(*petal)})
