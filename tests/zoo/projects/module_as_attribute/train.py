"""module objects as parameters and attributes of estimators, local and installed"""

import numpy as np
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import rules
from applying import RulesTransformer
from scoreline_training import publish

X, y = load_wine(return_X_y=True, as_frame=True)
model = make_pipeline(RulesTransformer(rules, maths=np), LogisticRegression(max_iter=2000))
publish(model.fit(X, y), "module-as-attribute", X, y)
