"""folders without __init__.py: namespace packages"""

import numpy as np
import pandas as pd
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from scoreline_training import publish
from src.features.ratios import per_person

rng = np.random.default_rng(3)
X = pd.DataFrame({"rent": rng.uniform(300, 2000, 120), "people": rng.integers(1, 6, 120)})
y = X["rent"] / X["people"] > 400
model = make_pipeline(FunctionTransformer(per_person), GaussianNB())
publish(model.fit(X, y), "namespace-package", X, y)
