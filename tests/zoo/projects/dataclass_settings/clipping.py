from dataclasses import dataclass, replace

from sklearn.base import BaseEstimator, TransformerMixin

from settings import Bounds, Config


@dataclass(eq=False)
class Clipper(TransformerMixin, BaseEstimator):
    config: Config
    slack: float = 0.5

    def fit(self, X, y=None):
        self.loose_ = {
            name: replace(one, low=one.low - self.slack) for name, one in self.config.bounds.items()
        }
        return self

    def transform(self, X):
        assert self.config.bounds["mean texture"] == Bounds(10.0)
        return X[self.config.names].assign(
            **{name: X[name].clip(one.low, one.high) for name, one in self.loose_.items()}
        )
