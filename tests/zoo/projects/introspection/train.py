"""code that looks at itself: loggers, warnings, getsource, signatures, tracebacks, copies"""

from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from looking.steps import Looking, squares
from scoreline_training import publish

X, y = load_iris(return_X_y=True, as_frame=True)
publish(
    make_pipeline(Looking(squares), LogisticRegression(max_iter=2000)).fit(X, y),
    "introspection",
    X,
    y,
)
