"""enums as parameters, compared with `is`, in match, as keys; a flag and a StrEnum"""

from sklearn.datasets import load_wine
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline

from modes import Checks, Column, Mode
from scaling import Scaler
from scoreline_training import publish

X, y = load_wine(return_X_y=True, as_frame=True)
model = make_pipeline(
    Scaler(
        {Column.ALCOHOL: Mode.LOG, Column.MAGNESIUM: Mode.ROOT}, Checks.FINITE | Checks.POSITIVE
    ),
    RidgeClassifier(),
)
publish(model.fit(X, y), "enum-modes", X, y)
