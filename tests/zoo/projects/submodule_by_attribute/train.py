"""import shop, then shop.prices.net(...): the sub-module was imported by somebody else"""

import numpy as np
import pandas as pd
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import basket
import shop.prices
from scoreline_training import publish

rng = np.random.default_rng(4)
X = pd.DataFrame({"price": rng.uniform(1, 90, 150), "pieces": rng.integers(1, 9, 150)})
y = shop.prices.net(X["price"]) * X["pieces"]
model = make_pipeline(FunctionTransformer(basket.totals), LinearRegression())
publish(model.fit(X, y), "submodule-by-attribute", X, y)
