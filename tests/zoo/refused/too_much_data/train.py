"""a package with a data file far larger than code ever is"""

from pathlib import Path

Path("tables/huge.bin").write_bytes(b"\1" * 300_000_000)

from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from scoreline_training import publish
from tables import scale

X, y = load_iris(return_X_y=True, as_frame=True)
publish(
    make_pipeline(FunctionTransformer(scale), LogisticRegression(max_iter=500)).fit(X, y),
    "too-much-data",
    X,
    y,
)
