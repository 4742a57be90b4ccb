"""a package whose __init__ re-exports classes of private modules under other names"""

from sklearn.datasets import load_wine
from sklearn.pipeline import make_pipeline

import toolbox as tb
from scoreline_training import publish

X, y = load_wine(return_X_y=True, as_frame=True)
model = make_pipeline(tb.Scale(power=0.5), tb.Model(max_iter=3000))
publish(model.fit(X, y), "package-reexports", X, y)
