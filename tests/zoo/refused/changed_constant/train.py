"""a constant of a local module that the script has changed"""

from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import scaling
from scoreline_training import publish

X, y = load_iris(return_X_y=True, as_frame=True)
scaling.MEAN = X.mean()
publish(
    make_pipeline(FunctionTransformer(scaling.centre), LogisticRegression(max_iter=500)).fit(X, y),
    "changed-constant",
    X,
    y,
)
