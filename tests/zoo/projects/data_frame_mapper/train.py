"""a DataFrameMapper with local transformers and functions"""

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, LabelBinarizer, StandardScaler
from sklearn_pandas import DataFrameMapper

from scoreline_training import publish
from years import Decade, is_adult

rng = np.random.default_rng(9)
X = pd.DataFrame(
    {
        "age": rng.integers(5, 80, 200),
        "town": rng.choice(["Kiel", "Ulm", "Bonn"], 200),
        "fare": rng.gamma(2, 20, 200),
    }
)
y = np.where((X["age"] < 18) | (X["fare"] > 60), "yes", "no")
mapper = DataFrameMapper(
    [
        (["age"], [FunctionTransformer(is_adult)], {"alias": "adult"}),
        (["age"], Decade()),
        ("town", LabelBinarizer()),
        (["fare"], [FunctionTransformer(np.log1p), StandardScaler()]),
    ]
)
publish(make_pipeline(mapper, LogisticRegression()).fit(X, y), "data-frame-mapper", X, y)
