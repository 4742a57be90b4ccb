"""a local module of which there is only compiled code"""

import py_compile
from pathlib import Path

py_compile.compile("hidden.py", cfile="hidden.pyc")
Path("hidden.py").unlink()

from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from hidden import scale
from scoreline_training import publish

X, y = load_iris(return_X_y=True, as_frame=True)
publish(
    make_pipeline(FunctionTransformer(scale), LogisticRegression(max_iter=500)).fit(X, y),
    "compiled-only",
    X,
    y,
)
