import numpy as np
from sklearn.base import BaseEstimator, ClusterMixin, MetaEstimatorMixin, clone


def first_rows(X, n_clusters, random_state):
    return X[:: len(X) // n_clusters][:n_clusters]


class NamedClusters(MetaEstimatorMixin, ClusterMixin, BaseEstimator):
    def __init__(self, estimator, names):
        self.estimator = estimator
        self.names = names

    def fit(self, X, y=None):
        self.estimator_ = clone(self.estimator).fit(X)
        order = self.estimator_.cluster_centers_.sum(axis=1).argsort()
        self.names_ = np.array(self.names, dtype=object)[order.argsort()]
        return self

    def predict(self, X):
        return self.names_[self.estimator_.predict(X)]
