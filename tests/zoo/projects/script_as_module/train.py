"""a script that its own helper imports again as a module"""

from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

FACTOR = 4


def enlarge(frame):
    return frame * FACTOR


def main():
    from helper import twice
    from scoreline_training import publish

    X, y = load_diabetes(return_X_y=True, as_frame=True)
    model = make_pipeline(
        FunctionTransformer(twice), FunctionTransformer(enlarge), LinearRegression()
    )
    publish(model.fit(X, y), "script-as-module", X, y)


if __name__ == "__main__":
    main()
