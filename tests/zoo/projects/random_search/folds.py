import numpy as np


class Alternating:
    def __init__(self, folds):
        self.folds = folds

    def split(self, X, y=None, groups=None):
        places = np.arange(len(X))
        for fold in range(self.folds):
            yield places[places % self.folds != fold], places[places % self.folds == fold]

    def get_n_splits(self, X=None, y=None, groups=None):
        return self.folds


def simplest(results):
    good = np.flatnonzero(results["mean_test_score"] > results["mean_test_score"].max() - 0.05)
    return min(good, key=lambda place: results["param_root__degree"][place])
