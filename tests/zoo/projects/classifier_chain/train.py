"""ClassifierChain: multi-label 0/1 with probabilities for each label"""

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import ClassifierChain
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from labels import labels_of
from scoreline_training import publish

X, y = load_breast_cancer(return_X_y=True, as_frame=True)
X = X.iloc[:, :6]
model = make_pipeline(StandardScaler(), ClassifierChain(LogisticRegression(), order=[1, 0, 2]))
publish(model.fit(X, labels_of(X, y)), "classifier-chain", X, y)
