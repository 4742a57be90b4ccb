"""... and different code, side by side in one process"""

import numpy as np
import pandas as pd
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from features import make
from scoreline_training import publish

rng = np.random.default_rng(20)
X = pd.DataFrame({"nights": rng.integers(1, 14, 100), "guests": rng.integers(1, 5, 100)})
y = 50 * X["nights"] + X["guests"] ** 2
publish(make_pipeline(FunctionTransformer(make), LinearRegression()).fit(X, y), "pricing", X, y)
