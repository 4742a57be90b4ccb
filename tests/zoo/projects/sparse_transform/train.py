"""a transformer-only pipeline whose output is sparse, and one step that gives a data frame"""

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction import DictVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, KBinsDiscretizer

from records import as_dicts
from scoreline_training import publish

rng = np.random.default_rng(17)
X = pd.DataFrame({"city": rng.choice(list("abcdefgh"), 100), "n": rng.integers(0, 50, 100)})
columns = make_column_transformer(
    (make_pipeline(FunctionTransformer(as_dicts), DictVectorizer()), ["city"]),
    (
        KBinsDiscretizer(5, quantile_method="linear")
        if "quantile_method" in KBinsDiscretizer().get_params()
        else KBinsDiscretizer(5),
        ["n"],
    ),
    sparse_threshold=1,
)
publish(make_pipeline(columns).fit(X), "sparse-transform", X)
