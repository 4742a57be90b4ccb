"""callable instances, operator and method callers, ufuncs, numpy and builtin functions"""

from operator import attrgetter, itemgetter, methodcaller

import numpy as np
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer

from polynomials import Polynomial
from scoreline_training import publish

X, y = load_iris(return_X_y=True, as_frame=True)
union = make_union(
    FunctionTransformer(Polynomial([1, -2, 0.5])),
    FunctionTransformer(methodcaller("clip", upper=3)),
    FunctionTransformer(attrgetter("values")),
    FunctionTransformer(itemgetter(["petal length (cm)", "petal width (cm)"])),
    FunctionTransformer(np.sqrt),
    FunctionTransformer(abs),
)
publish(
    make_pipeline(union, LogisticRegression(max_iter=2000)).fit(X, y), "callable-instances", X, y
)
