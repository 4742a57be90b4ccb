"""a package that finds its parts through a module-level __getattr__ and __dir__"""

from sklearn.datasets import load_diabetes
from sklearn.linear_model import Lasso
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import lazy
from lazy import double
from scoreline_training import publish
from using import apply

X, y = load_diabetes(return_X_y=True, as_frame=True)
model = make_pipeline(
    FunctionTransformer(apply),
    FunctionTransformer(double),
    FunctionTransformer(lazy.halve),
    Lasso(alpha=0.1),
)
publish(model.fit(X, y), "module-getattr", X, y)
