"""an environment variable that only training has"""

import os

from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from regions import regional
from scoreline_training import publish

os.environ["REGION_FACTOR"] = "3"
X, y = load_iris(return_X_y=True, as_frame=True)
publish(
    make_pipeline(FunctionTransformer(regional), LogisticRegression(max_iter=500)).fit(X, y),
    "environment-variable",
    X,
    y,
)
