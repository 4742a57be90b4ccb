"""an open file among the attributes"""

from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from logging_step import Logging
from scoreline_training import publish

X, y = load_iris(return_X_y=True, as_frame=True)
publish(make_pipeline(Logging(), LogisticRegression(max_iter=500)).fit(X, y), "open-file", X, y)
