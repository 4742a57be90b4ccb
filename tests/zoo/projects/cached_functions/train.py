"""lru_cache, cache and singledispatch functions as parameters: of a local module and of the script"""

from functools import cache, lru_cache, singledispatch

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union

from mapping import Mapped, rank, weigh
from scoreline_training import publish

VOWELS = "aeiou"


@lru_cache(maxsize=100)
def vowels(word):
    return sum(letter in VOWELS for letter in word)


@cache
def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


@singledispatch
def size(value):
    return fibonacci(int(value))


@size.register(str)
def _(value):
    return len(value)


rng = np.random.default_rng(21)
X = pd.DataFrame(
    {"word": rng.choice(["apple", "fig", "kiwi", "cherry"], 120), "n": rng.integers(1, 12, 120)}
)
y = X["word"].isin(["fig", "kiwi"]) & (X["n"] > 4)
union = make_union(
    Mapped(rank, "word"),
    Mapped(vowels, "word"),
    Mapped(size, "word"),
    Mapped(size, "n"),
    Mapped(weigh, "n"),
)
publish(make_pipeline(union, LogisticRegression()).fit(X, y), "cached-functions", X, y)
