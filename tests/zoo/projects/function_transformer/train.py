"""FunctionTransformer with kw_args, inverse_func and feature_names_out, set_output(pandas)"""

from sklearn.datasets import load_diabetes
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import BayesianRidge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, PolynomialFeatures

import steps
from scoreline_training import publish

X, y = load_diabetes(return_X_y=True, as_frame=True)
model = make_pipeline(
    FunctionTransformer(
        steps.lagged,
        kw_args={"names": ["bmi", "bp"], "rule": steps.RULE},
        feature_names_out=steps.names_out,
    ),
    PolynomialFeatures(degree=2, include_bias=False),
    FunctionTransformer(
        steps.only_named,
        kw_args=dict(prefix="bmi"),
        feature_names_out=lambda self, names: [name for name in names if name.startswith("bmi")],
    ),
    SelectKBest(steps.score, k=4),
    BayesianRidge(),
).set_output(transform="pandas")
publish(model.fit(X, y), "function-transformer", X, y)
