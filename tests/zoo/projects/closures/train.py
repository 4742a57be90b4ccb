"""closures: over numbers, fitted arrays, other functions, themselves, and with nonlocal"""

from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from factories import chained, power, standardizer
from scoreline_training import publish


def between(low, high):
    def clip(frame):
        return frame.clip(low, high)

    return clip


X, y = load_diabetes(return_X_y=True, as_frame=True)
steps = [standardizer(X), power(3), between(-20, 20)]
model = make_pipeline(FunctionTransformer(chained(*steps)), Ridge())
publish(model.fit(X, y), "closures", X, y)
