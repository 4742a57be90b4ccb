"""a file beside a local module, opened by its path at import time"""

from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from limits import limit
from scoreline_training import publish

X, y = load_iris(return_X_y=True, as_frame=True)
publish(
    make_pipeline(FunctionTransformer(limit), LogisticRegression(max_iter=500)).fit(X, y),
    "file-beside-module",
    X,
    y,
)
