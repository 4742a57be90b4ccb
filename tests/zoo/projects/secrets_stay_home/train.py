"""credentials, data access and notes beside the code that the pipeline needs stay at home"""

from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import credentials
import warehouse
from scoreline_training import publish
from shaping import shape

X, y = warehouse.load(credentials.PASSWORD)
model = make_pipeline(FunctionTransformer(shape), LinearRegression())
publish(model.fit(X, y), "secrets-stay-home", X, y)
