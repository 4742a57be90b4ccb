"""importlib.import_module of local modules: a literal, a computed and a relative name"""

from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from registry import run_steps
from scoreline_training import publish

X, y = load_diabetes(return_X_y=True, as_frame=True)
model = make_pipeline(
    FunctionTransformer(run_steps, kw_args={"names": ["square", "shift"]}), LinearRegression()
)
publish(model.fit(X, y), "importlib-names", X, y)
