"""OneHotEncoder, OrdinalEncoder and TargetEncoder on category and text columns"""

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, TargetEncoder

from grading import GRADES, rank
from scoreline_training import publish

rng = np.random.default_rng(13)
X = pd.DataFrame(
    {
        "grade": pd.Categorical(rng.choice(GRADES, 240), categories=GRADES, ordered=True),
        "state": pd.Categorical(rng.choice(["NY", "CA", "TX"], 240)),
        "job": rng.choice(["nurse", "cook", "clerk", "pilot"], 240),
        "floor": pd.Categorical(rng.integers(1, 4, 240)),
    }
)
y = (X["grade"].map(rank).astype(int) + rng.integers(0, 3, 240) > 3).astype(int)
columns = make_column_transformer(
    (OrdinalEncoder(categories=[GRADES]), ["grade"]),
    (OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["state", "floor"]),
    (TargetEncoder(random_state=0), ["job"]),
)
publish(make_pipeline(columns, LogisticRegression()).fit(X, y), "categories", X, y)
