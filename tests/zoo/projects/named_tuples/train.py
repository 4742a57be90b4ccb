"""NamedTuple, namedtuple, TypedDict, NewType, Protocol and Generic in local modules"""

from sklearn.datasets import load_iris
from sklearn.linear_model import Perceptron
from sklearn.pipeline import make_pipeline

from scoreline_training import publish
from windows import Window, WindowFeatures

X, y = load_iris(return_X_y=True, as_frame=True)
windows = [Window("petal length (cm)", 1, 4), Window("petal width (cm)", high=1.5)]
publish(
    make_pipeline(WindowFeatures(windows), Perceptron(random_state=0)).fit(X, y),
    "named-tuples",
    X,
    y,
)
