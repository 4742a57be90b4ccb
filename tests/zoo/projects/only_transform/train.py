"""a transformer-only pipeline: local scaling, then PCA"""

from sklearn.datasets import load_wine
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline

from scaling import ByRange
from scoreline_training import publish

X, _ = load_wine(return_X_y=True, as_frame=True)
publish(make_pipeline(ByRange(), PCA(3, random_state=0)).fit(X), "only-transform", X)
