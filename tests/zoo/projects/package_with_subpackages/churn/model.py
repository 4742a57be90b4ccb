from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from . import features
from .features.texts import NoteFlags


def build():
    columns = make_column_transformer(
        (FunctionTransformer(features.busy), ["calls"]),
        (FunctionTransformer(features.is_night), ["hour"]),
        (NoteFlags(), ["note"]),
    )
    return make_pipeline(columns, LogisticRegression())
