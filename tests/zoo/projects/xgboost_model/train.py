"""XGBoost with a local objective function"""

from sklearn.datasets import load_diabetes
from sklearn.pipeline import make_pipeline
from xgboost import XGBRegressor

from losses import squared
from scoreline_training import publish
from shaping import Squared

X, y = load_diabetes(return_X_y=True, as_frame=True)
model = make_pipeline(Squared(), XGBRegressor(n_estimators=10, objective=squared, n_jobs=1))
publish(model.fit(X, y), "xgboost-model", X, y)
