"""local modules with names of the standard library and of an installed library's part"""

from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from code import decode
from scoreline_training import publish
from preprocessing import encode

X, y = load_diabetes(return_X_y=True, as_frame=True)
model = make_pipeline(FunctionTransformer(encode), FunctionTransformer(decode), LinearRegression())
publish(model.fit(X, y), "shadowing", X, y)
