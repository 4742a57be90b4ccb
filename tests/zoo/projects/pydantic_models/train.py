"""pydantic models of a module, one of them as a parameter of a step"""

import numpy as np
import pandas as pd
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from rows import Rates, checked
from scoreline_training import publish

rng = np.random.default_rng(3)
X = pd.DataFrame({"amount": rng.normal(size=90), "discount": rng.random(90)})
y = X["amount"].abs() * 3 - X["discount"]
model = make_pipeline(
    FunctionTransformer(checked, kw_args={"rates": Rates(factor=3)}), LinearRegression()
)
publish(model.fit(X, y), "pydantic-models", X, y)
