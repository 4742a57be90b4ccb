"""code that looks for its own module or classes in sys.modules: type hints as text, pickle"""

from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from hints import checked
from scoreline_training import publish

X, y = load_iris(return_X_y=True, as_frame=True)
publish(
    make_pipeline(FunctionTransformer(checked), LogisticRegression(max_iter=500)).fit(X, y),
    "looks-itself-up",
    X,
    y,
)
