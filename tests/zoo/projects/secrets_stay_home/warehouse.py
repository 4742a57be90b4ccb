import numpy as np
import pandas as pd

import credentials


def load(password):
    assert password == credentials.PASSWORD == "correct-horse-" + "battery-staple"
    rng = np.random.default_rng(6)
    X = pd.DataFrame({"a": rng.normal(size=90), "b": rng.normal(size=90)})
    return X, X["a"] - X["b"]
