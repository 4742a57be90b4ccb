"""imports inside functions and methods, first run when a record is scored"""

from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from scoreline_training import publish
from shapes import Petals

X, y = load_iris(return_X_y=True, as_frame=True)
model = make_pipeline(Petals(), LogisticRegression(max_iter=500))
publish(model.fit(X, y), "imports-inside-functions", X, y)
