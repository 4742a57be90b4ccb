"""from helpers import *, with and without __all__"""

from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from helpers import *
from scoreline_training import publish

X, y = load_diabetes(return_X_y=True, as_frame=True)
model = make_pipeline(FunctionTransformer(squeeze), Ridge())
publish(model.fit(X, y), "star-import", X, y)
