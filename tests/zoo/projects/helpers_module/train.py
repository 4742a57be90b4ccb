"""import helpers, and helpers.ratio(...) in the functions of another module"""

from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import features
from scoreline_training import publish

X, y = load_breast_cancer(return_X_y=True, as_frame=True)
X = X[["mean radius", "mean area", "mean texture"]]
model = make_pipeline(
    FunctionTransformer(features.add_ratios), StandardScaler(), LogisticRegression()
)
publish(model.fit(X, y), "helpers-module", X, y)
