"""a custom transformation imported from another script"""

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from preparation import IncomeCleaner
from scoreline_training import publish

rng = np.random.default_rng(1)
X = pd.DataFrame({"income": rng.lognormal(8, 1, 200), "debts": rng.integers(0, 5, 200)})
y = (X["income"] / (1 + X["debts"]) > 1500).astype(int)
model = Pipeline([("clean", IncomeCleaner(cap=20_000)), ("clf", LogisticRegression(max_iter=1000))])
publish(model.fit(X, y), "other-script", X, y)
