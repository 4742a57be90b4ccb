"""mixins and super() across modules, an abstract base, multiple inheritance"""

from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline

from scoreline_training import publish
from steps.tidy import Tidy

X, y = load_diabetes(return_X_y=True, as_frame=True)
publish(make_pipeline(Tidy(), LinearRegression()).fit(X, y), "super-and-mixins", X, y)
