"""MultiOutputClassifier(n_jobs=2) on text labels, with a local base classifier"""

import numpy as np
from sklearn.datasets import load_wine
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from careful import CarefulClassifier
from scoreline_training import publish

X, y = load_wine(return_X_y=True, as_frame=True)
labels = np.column_stack(
    [np.where(y == 0, "barolo", "other"), np.where(X["alcohol"] > 13, "strong", "light")]
)
model = make_pipeline(
    StandardScaler(), MultiOutputClassifier(CarefulClassifier(max_iter=500), n_jobs=2)
)
publish(model.fit(X, labels), "multi-label", X, labels)
