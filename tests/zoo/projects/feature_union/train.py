"""FeatureUnion(n_jobs=2) of local classes with state, a local enum and an estimator in the union"""

from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, Pipeline

from parts.distances import Distances, Metric
from scoreline_training import publish

X, y = load_iris(return_X_y=True, as_frame=True)
union = FeatureUnion(
    [("near", Distances(Metric.EUCLIDEAN)), ("city", Distances(Metric.CITY)), ("pca", PCA(2))],
    n_jobs=2,
    transformer_weights={"city": 0.5},
)
model = Pipeline([("union", union), ("clf", LogisticRegression(max_iter=1000))])
publish(model.fit(X, y), "feature-union", X, y)
