import json
import pkgutil
from importlib import resources

from sklearn.base import BaseEstimator, TransformerMixin


class Regions(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        return self

    def transform(self, X):
        with (resources.files(__package__) / "data").joinpath("regions.json").open() as file:
            table = json.load(file)
        with resources.as_file(resources.files(__package__) / "data" / "weights.bin") as path:
            weight = path.read_bytes()[0]
        bonus = int(pkgutil.get_data(__name__, "data/bonus.txt"))
        return X[["zip"]].map(lambda zip: weight * table[zip[:2]] + bonus)
