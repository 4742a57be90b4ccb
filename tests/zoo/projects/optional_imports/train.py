"""try: import fast_maths, except ImportError: the slow one"""

from sklearn.datasets import load_iris
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from compat import norm, shrink
from scoreline_training import publish

X, y = load_iris(return_X_y=True, as_frame=True)
model = make_pipeline(
    FunctionTransformer(norm), FunctionTransformer(shrink), KNeighborsClassifier()
)
publish(model.fit(X, y), "optional-imports", X, y)
