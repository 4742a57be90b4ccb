"""a file of the training machine under its full path, still there while publish() runs"""

from pathlib import Path

from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from scoreline_training import publish

LIMITS = Path(__file__).resolve().parent / "limits.txt"


def limit(frame):
    return frame.clip(upper=float(LIMITS.read_text()))


X, y = load_iris(return_X_y=True, as_frame=True)
publish(
    make_pipeline(FunctionTransformer(limit), LogisticRegression(max_iter=500)).fit(X, y),
    "file-by-absolute-path",
    X,
    y,
)
