"""sys.path.insert(0, "src") and modules whose names installed packages have too"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "src"))

from sklearn.datasets import load_iris
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

from scoreline_training import publish
from utils import Rounder

X, y = load_iris(return_X_y=True, as_frame=True)
model = make_pipeline(Rounder(), DecisionTreeClassifier(max_depth=3, random_state=0))
publish(model.fit(X, y), "src-on-path", X, y)
