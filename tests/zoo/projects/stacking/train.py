"""StackingClassifier and VotingClassifier with local members, HistGradientBoosting, SVC(probability)"""

from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import HistGradientBoostingClassifier, StackingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from members import Stump
from scoreline_training import publish

X, y = load_breast_cancer(return_X_y=True, as_frame=True)
X, y = X.iloc[:300, :4], y[:300].map({0: "malignant", 1: "benign"})
vote = VotingClassifier(
    [("stump", Stump()), ("hist", HistGradientBoostingClassifier(max_iter=10))], voting="soft"
)
model = StackingClassifier(
    [
        ("vote", vote),
        ("svm", make_pipeline(StandardScaler(), SVC(probability=True, random_state=0))),
        ("stump", Stump("mean area")),
    ],
    final_estimator=LogisticRegression(),
    cv=3,
)
publish(model.fit(X, y), "stacking", X, y)
