# %% [markdown] a notebook: cells run one after another in __main__, some of them twice
import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import cells
from cells import spread

rng = np.random.default_rng(8)
X = pd.DataFrame({"x": rng.normal(size=140), "y": rng.normal(size=140)})
# %%
X.head()
# %%
SLOPE = 99


def tilt(frame):
    return frame * 1000


# %%
SLOPE = 0.3


def tilt(frame):
    return frame.assign(x=frame["x"] + SLOPE * cells.twice(frame["y"]))


# %%
class Centre(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.mean_ = X.mean()
        return self

    def transform(self, X):
        return spread(X - self.mean_)


# %%
y = np.where(X["x"] > X["y"], "above", "below")
model = make_pipeline(FunctionTransformer(tilt), Centre(), LogisticRegression()).fit(X, y)
model.score(X, y)
# %%
from scoreline_training import publish

publish(model, "notebook", X, y)
