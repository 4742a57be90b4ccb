"""decorated functions: with and without wraps, lru_cache, singledispatch, a decorator class"""

import pandas as pd
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import steps
from decorators import repeated
from scoreline_training import publish


@repeated(2)
def grow(frame):
    return frame * 1.1


X, y = load_iris(return_X_y=True, as_frame=True)
functions = [grow, steps.logged_sum, steps.plain, steps.cached, steps.widen, steps.counted]
model = make_pipeline(*map(FunctionTransformer, functions), LogisticRegression(max_iter=1000))
publish(model.fit(X, y), "decorated", X, y)
