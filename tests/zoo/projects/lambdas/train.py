"""lambdas: of a local module, of the script, as attributes, in lists and dicts"""

from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from recipes import OTHERS, Recipes, logs
from scoreline_training import publish

LIMIT = 20
X, y = load_breast_cancer(return_X_y=True, as_frame=True)
X = X[["mean radius", "mean area", "mean texture"]]
clip = lambda frame: frame.assign(**{"mean radius": frame["mean radius"].clip(upper=LIMIT)})
model = make_pipeline(
    FunctionTransformer(lambda frame: frame + 0.5),
    FunctionTransformer(clip),
    FunctionTransformer(logs),
    FunctionTransformer(OTHERS["halve"]),
    Recipes({"ratio": lambda frame: frame["mean area"] / frame["mean radius"]}),
    StandardScaler(),
    LogisticRegression(),
)
publish(model.fit(X, y), "lambdas", X, y)
