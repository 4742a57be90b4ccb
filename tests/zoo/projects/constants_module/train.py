"""constants of local modules: as parameters, as defaults, as globals, as mutable tables"""

from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import constants as c
from binning import to_bins
from scoreline_training import publish

X, y = load_breast_cancer(return_X_y=True, as_frame=True)
X = X[c.COLUMNS]
model = make_pipeline(
    FunctionTransformer(to_bins),
    StandardScaler(**c.SCALING),
    SGDClassifier(loss=c.LOSS, random_state=c.SEED),
)
publish(model.fit(X, y), "constants-module", X, y)
