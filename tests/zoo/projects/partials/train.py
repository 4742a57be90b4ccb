"""partials of local, installed and script functions, nested and with keywords"""

from functools import partial

import numpy as np
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from scaling import scaled, scaled_twice
from scoreline_training import publish


def shift(frame, *, by):
    return frame + by


X, y = load_wine(return_X_y=True, as_frame=True)
model = make_pipeline(
    FunctionTransformer(partial(shift, by=1)),
    FunctionTransformer(partial(partial(scaled, factor=2), power=0.5)),
    FunctionTransformer(partial(np.clip, a_min=0, a_max=30)),
    FunctionTransformer(scaled_twice),
    LogisticRegression(max_iter=3000),
)
publish(model.fit(X, y), "partials", X, y)
