"""LocalOutlierFactor(novelty=True) with a local callable as metric"""

import numpy as np
from sklearn.neighbors import LocalOutlierFactor
from sklearn.datasets import load_iris
from sklearn.pipeline import make_pipeline

from distances import stretched
from scoreline_training import publish

X, _ = load_iris(return_X_y=True, as_frame=True)
model = make_pipeline(
    LocalOutlierFactor(10, novelty=True, metric=stretched, metric_params={"power": 1.5})
)
publish(model.fit(X), "local-outlier", X)
