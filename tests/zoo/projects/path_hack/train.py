"""a local module that puts a folder beside itself on sys.path, and imports from there"""

from sklearn.datasets import load_iris
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from scoreline_training import publish
from widths import widen

X, y = load_iris(return_X_y=True, as_frame=True)
publish(make_pipeline(FunctionTransformer(widen), GaussianNB()).fit(X, y), "path-hack", X, y)
