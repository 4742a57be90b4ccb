"""a module that was made with exec, and is in no file"""

import sys
from types import ModuleType

from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from scoreline_training import publish

generated = ModuleType("generated")
exec("def scale(frame):\n    return frame * 2\n", generated.__dict__)
sys.modules["generated"] = generated

X, y = load_iris(return_X_y=True, as_frame=True)
publish(
    make_pipeline(FunctionTransformer(generated.scale), LogisticRegression(max_iter=500)).fit(X, y),
    "module-made-by-hand",
    X,
    y,
)
