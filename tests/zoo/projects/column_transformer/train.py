"""ColumnTransformer(n_jobs=2): selectors, remainder passthrough, a local callable as selector"""

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from columns import Spread, amounts
from scoreline_training import publish

rng = np.random.default_rng(10)
X = pd.DataFrame(
    {
        "amount_in": rng.gamma(2, 100, 220),
        "amount_out": rng.gamma(2, 90, 220),
        "colour": rng.choice(["red", "green", "blue"], 220),
        "vip": rng.random(220) > 0.7,
    }
)
y = (X["amount_in"] > X["amount_out"]).map({True: "saves", False: "spends"})
columns = ColumnTransformer(
    [
        (
            "numbers",
            StandardScaler(),
            make_column_selector(pattern="amount", dtype_include="number"),
        ),
        ("texts", OneHotEncoder(), make_column_selector(dtype_include=["object", "string", "str"])),
        ("spread", Spread(), amounts),
        ("logs", FunctionTransformer(lambda frame: np.log1p(frame)), ["amount_in"]),
    ],
    remainder="passthrough",
    n_jobs=2,
)
publish(make_pipeline(columns, LogisticRegression()).fit(X, y), "column-transformer", X, y)
