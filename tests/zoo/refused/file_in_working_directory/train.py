"""a file in the working directory, opened when a record is scored"""

import json

from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from scoreline_training import publish


def limit(frame):
    with open("limits.json") as file:
        return frame.clip(upper=json.load(file)["upper"])


X, y = load_iris(return_X_y=True, as_frame=True)
publish(
    make_pipeline(FunctionTransformer(limit), LogisticRegression(max_iter=500)).fit(X, y),
    "file-in-working-directory",
    X,
    y,
)
