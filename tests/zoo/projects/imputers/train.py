"""SimpleImputer and KNNImputer on columns with missing values, nullable integers, booleans"""

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.impute import KNNImputer, MissingIndicator, SimpleImputer
from sklearn.pipeline import make_pipeline

from filling import flags, mode_of
from scoreline_training import publish

rng = np.random.default_rng(14)
missing = lambda values, share=0.2: values.mask(rng.random(len(values)) < share)
X = pd.DataFrame(
    {
        "height": missing(pd.Series(rng.normal(170, 10, 200))),
        "weight": missing(pd.Series(rng.normal(70, 9, 200))),
        "children": missing(pd.Series(rng.integers(0, 4, 200), dtype="Int64")),
        "smokes": missing(pd.Series(rng.random(200) > 0.5, dtype="boolean")),
        "doctor": missing(pd.Series(rng.choice(["Ng", "Roe"], 200), dtype=object)),
        "insured": rng.random(200) > 0.3,
    }
)
y = (X["weight"].fillna(60) / X["height"].fillna(170) > 0.42).astype(int)
columns = make_column_transformer(
    (KNNImputer(n_neighbors=3), ["height", "weight"]),
    (SimpleImputer(strategy=mode_of), ["children"]),
    (MissingIndicator(features="all"), ["children", "height"]),
    (flags(), ["smokes", "insured", "doctor"]),
)
publish(
    make_pipeline(columns, GradientBoostingClassifier(n_estimators=10, random_state=0)).fit(X, y),
    "imputers",
    X,
    y,
)
