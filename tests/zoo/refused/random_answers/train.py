"""noise in transform: every answer is another one"""

import numpy as np
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from scoreline_training import publish

X, y = load_iris(return_X_y=True, as_frame=True)
model = make_pipeline(
    FunctionTransformer(lambda frame: frame + np.random.normal(size=frame.shape)),
    LogisticRegression(max_iter=500),
)
publish(model.fit(X, y), "random-answers", X, y)
