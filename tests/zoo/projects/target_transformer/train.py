"""TransformedTargetRegressor with local func and inverse_func; a regressor"""

from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_diabetes
from sklearn.linear_model import HuberRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import SplineTransformer

from scoreline_training import publish
from targets import from_log, to_log

X, y = load_diabetes(return_X_y=True, as_frame=True)
X = X[["bmi", "bp", "s5"]]
model = TransformedTargetRegressor(
    make_pipeline(SplineTransformer(4), HuberRegressor(max_iter=1000)),
    func=to_log,
    inverse_func=from_log,
)
publish(model.fit(X, y), "target-transformer", X, y)
