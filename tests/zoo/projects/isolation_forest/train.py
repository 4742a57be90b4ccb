"""an outlier detector without predict_proba: IsolationForest(n_jobs=2) behind a lambda"""

import numpy as np
import pandas as pd
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from scoreline_training import publish
from sensors import rolling_free, sensors

X = sensors()
model = make_pipeline(
    FunctionTransformer(rolling_free),
    FunctionTransformer(lambda frame: frame.round(2)),
    IsolationForest(n_estimators=20, random_state=0, n_jobs=2),
)
publish(model.fit(X), "isolation-forest", X)
