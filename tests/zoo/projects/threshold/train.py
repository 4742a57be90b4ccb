"""TunedThresholdClassifierCV and FixedThresholdClassifier with a local cost function"""

from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import make_scorer
from sklearn.model_selection import TunedThresholdClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from costs import cost
from scoreline_training import publish

X, y = load_breast_cancer(return_X_y=True, as_frame=True)
X = X.iloc[:, :3]
base = make_pipeline(StandardScaler(), LogisticRegression())
model = TunedThresholdClassifierCV(base, scoring=make_scorer(cost, missed=4), cv=3, random_state=0)
publish(model.fit(X, y), "threshold", X, y)
