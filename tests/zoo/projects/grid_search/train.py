"""GridSearchCV(n_jobs=2) over lambdas, partials and closures; dill imported before"""

from functools import partial

import dill  # changes how other libraries pickle, too
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from scoreline_training import publish
from scoring import cost_of_errors
from shapes import power

OFFSET = 1.0


def shifted(frame, by):
    return frame + by


X, y = load_breast_cancer(return_X_y=True, as_frame=True)
X = X.iloc[:, :5]
model = make_pipeline(FunctionTransformer(), StandardScaler(), LogisticRegression(max_iter=500))
functions = [
    lambda frame: np.log(frame + OFFSET),
    partial(shifted, by=2),
    power(0.5),
    partial(power(2), scale=0.1),
]
search = GridSearchCV(
    model,
    {"functiontransformer__func": functions},
    n_jobs=2,
    cv=3,
    scoring=cost_of_errors,
    error_score="raise",
)
search.fit(X, y)
publish(search.best_estimator_, "grid-search", X, y)
