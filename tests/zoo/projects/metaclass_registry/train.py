"""a metaclass and __init_subclass__ that register classes when their modules are imported"""

from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import plugins
from registry import ByName
from scoreline_training import publish

X, y = load_wine(return_X_y=True, as_frame=True)
model = make_pipeline(ByName(["ratio", "product", "first"]), LogisticRegression(max_iter=3000))
publish(model.fit(X, y), "metaclass-registry", X, y)
