"""dataclasses as parameters: frozen, with slots, nested, and with postponed annotations"""

from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from clipping import Clipper
from scoreline_training import publish
from settings import Bounds, Config

X, y = load_breast_cancer(return_X_y=True, as_frame=True)
X = X[["mean radius", "mean texture"]]
config = Config(bounds={"mean radius": Bounds(8, 20), "mean texture": Bounds(10.0)})
publish(make_pipeline(Clipper(config), LogisticRegression()).fit(X, y), "dataclass-settings", X, y)
