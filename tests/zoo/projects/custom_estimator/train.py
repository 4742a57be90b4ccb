"""a custom classifier: clone, get_params, classes_, __sklearn_tags__, its own predict_proba"""

import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_wine
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nearest import NearestMean
from scoreline_training import publish

X, y = load_wine(return_X_y=True, as_frame=True)
names = np.array(["barolo", "grignolino", "barbera"])[y]
model = clone(make_pipeline(StandardScaler(), NearestMean(sharpness=3)))
publish(model.fit(X, names), "custom-estimator", X, names)
