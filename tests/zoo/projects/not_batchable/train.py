"""get_dummies inside transform: answers depend on the company, so records are scored one by one"""

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from dummies import Dummies
from scoreline_training import publish

rng = np.random.default_rng(19)
X = pd.DataFrame(
    {"colour": rng.choice(["red", "green", "blue"], 120), "size": rng.uniform(1, 9, 120)}
)
y = np.where((X["colour"] == "red") ^ (X["size"] > 5), "keep", "return")
publish(make_pipeline(Dummies(), LogisticRegression()).fit(X, y), "not-batchable", X, y)
