"""data files of a local package, read with importlib.resources at import and at predict time"""

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from lexicon import Regions, tokens
from scoreline_training import publish

rng = np.random.default_rng(5)
comments = ["very good and quick", "the bad one", "good but slow", "awful and bad", "it is ok"]
X = pd.DataFrame(
    {"comment": rng.choice(comments, 160), "zip": rng.choice(["10115", "20095", "80331"], 160)}
)
y = X["comment"].str.contains("good").astype(int)
columns = make_column_transformer(
    (CountVectorizer(tokenizer=tokens, token_pattern=None), "comment"), (Regions(), ["zip"])
)
model = make_pipeline(columns, LogisticRegression())
publish(model.fit(X, y), "data-files", X, y)
