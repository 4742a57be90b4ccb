"""a package with sub-packages, relative imports up, down and sideways"""

from churn.model import build
from churn.data import load
from scoreline_training import publish

X, y = load()
publish(build().fit(X, y), "package-with-subpackages", X, y)
