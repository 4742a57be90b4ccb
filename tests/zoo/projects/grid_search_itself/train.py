"""the fitted GridSearchCV(n_jobs=2) itself, with a scorer of the script and lambdas of a module"""

import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import kinks
from scoreline_training import publish

TOLERATED = 20


def within(y, predicted):
    return np.mean(np.abs(y - predicted) < TOLERATED)


X, y = load_diabetes(return_X_y=True, as_frame=True)
search = GridSearchCV(
    make_pipeline(FunctionTransformer(kinks.bend), Ridge()),
    {
        "functiontransformer__func": [kinks.bend, kinks.flat, lambda frame: frame**3],
        "ridge__alpha": [0.1, 1],
    },
    scoring={"within": make_scorer(within), "mae": "neg_mean_absolute_error", "mine": kinks.scorer},
    refit="within",
    n_jobs=2,
    cv=3,
)
publish(search.fit(X, y), "grid-search-itself", X, y)
