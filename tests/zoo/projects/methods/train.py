"""static and class methods, bound methods, properties and cached properties"""

from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from cleaning import Cleaner, Scale
from scoreline_training import publish

X, y = load_diabetes(return_X_y=True, as_frame=True)
columns = make_column_transformer(
    (FunctionTransformer(Cleaner.negate), ["bmi"]),
    (FunctionTransformer(Cleaner.widen), ["bp"]),
    (FunctionTransformer(Cleaner(offset=0.5).move), ["s5"]),
    (FunctionTransformer(Cleaner.Inner.halve), ["s6"]),
    (Scale(), ["age"]),
)
publish(make_pipeline(columns, LinearRegression()).fit(X, y), "methods", X, y)
