"""GaussianProcessRegressor with a kernel class and an optimizer of a local module"""

from sklearn.datasets import load_diabetes
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import RobustScaler

from kernels import Halved, grid
from scoreline_training import publish

X, y = load_diabetes(return_X_y=True, as_frame=True)
X, y = X.loc[:150, ["bmi", "bp"]], y[:151]
model = make_pipeline(
    RobustScaler(),
    GaussianProcessRegressor(Halved(2.0), alpha=0.5, optimizer=grid, normalize_y=True),
)
publish(model.fit(X, y), "gaussian-process", X, y)
