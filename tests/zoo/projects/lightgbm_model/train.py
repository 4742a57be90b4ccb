"""LightGBM on a category column, with a local objective and evaluation function"""

import numpy as np
import pandas as pd
from lightgbm import LGBMRegressor
from sklearn.pipeline import make_pipeline

from losses import asymmetric, missed
from scoreline_training import publish
from shaping import per_room

rng = np.random.default_rng(18)
X = pd.DataFrame(
    {
        "rooms": rng.integers(1, 6, 300),
        "area": rng.normal(80, 20, 300),
        "town": pd.Categorical(rng.choice(["Kiel", "Ulm"], 300)),
    }
)
y = X["area"] * 10 + X["rooms"] * 30 + (X["town"] == "Kiel") * 200
model = LGBMRegressor(n_estimators=20, objective=asymmetric, n_jobs=2, verbose=-1, random_state=0)
pipeline = make_pipeline(per_room(), model)
pipeline.fit(X, y, lgbmregressor__eval_metric=missed)
publish(pipeline, "lightgbm-model", X, y)
