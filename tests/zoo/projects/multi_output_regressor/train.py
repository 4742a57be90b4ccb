"""MultiOutputRegressor(n_jobs=2) with a local regressor: several numbers for a record"""

from sklearn.datasets import load_diabetes
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline

from rounding import RoundedTree
from scoreline_training import publish

X, y = load_diabetes(return_X_y=True, as_frame=True)
targets = X[["s1", "s2"]].assign(y=y)
X = X[["age", "bmi", "bp", "s5"]]
model = make_pipeline(MultiOutputRegressor(RoundedTree(max_depth=4, random_state=0), n_jobs=2))
publish(model.fit(X, targets), "multi-output-regressor", X, targets)
