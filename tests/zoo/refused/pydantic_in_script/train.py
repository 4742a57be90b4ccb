"""a pydantic model that the script itself defines"""

import numpy as np
import pandas as pd
from pydantic import BaseModel
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from scoreline_training import publish


class Row(BaseModel):
    amount: float


def checked(frame):
    return np.array([[Row(**row).amount] for row in frame.to_dict("records")])


X = pd.DataFrame({"amount": np.arange(40.0)})
model = make_pipeline(FunctionTransformer(checked), LinearRegression())
publish(model.fit(X, X["amount"]), "pydantic-in-script", X)
