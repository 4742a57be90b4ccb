"""two modules that import each other"""

from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler

from orders import weigh
from scoreline_training import publish

X, y = load_wine(return_X_y=True, as_frame=True)
model = make_pipeline(
    MinMaxScaler().set_output(transform="pandas"), FunctionTransformer(weigh), LogisticRegression()
)
publish(model.fit(X, y), "circular-imports", X, y)
