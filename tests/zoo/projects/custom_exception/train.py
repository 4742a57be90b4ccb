"""a custom exception raised in one local module and caught in another"""

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from postcodes import AreaOfPostcode
from scoreline_training import publish

rng = np.random.default_rng(7)
X = pd.DataFrame({"postcode": rng.choice(["10115", "20095", "x", "99"], 150)})
y = np.where(X["postcode"] == "10115", "near", "far")
publish(make_pipeline(AreaOfPostcode(), LogisticRegression()).fit(X, y), "custom-exception", X, y)
