"""Pipeline(memory=...): steps that were fitted through a joblib cache in a folder that goes away"""

import tempfile

from sklearn.datasets import load_diabetes
from sklearn.decomposition import PCA
from sklearn.linear_model import ElasticNet
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from centring import Centre
from scoreline_training import publish

X, y = load_diabetes(return_X_y=True, as_frame=True)
with tempfile.TemporaryDirectory() as folder:
    steps = [("centre", Centre()), ("pca", PCA(4)), ("net", ElasticNet(alpha=0.01))]
    search = GridSearchCV(Pipeline(steps, memory=folder), {"net__alpha": [0.001, 0.01]}, cv=3)
    publish(search.fit(X, y).best_estimator_, "memory-cache", X, y)
