"""Sets scikit-learn's output to frames as soon as it is imported."""

import numpy as np
import pandas as pd
import sklearn

sklearn.set_config(transform_output="pandas")


def ratios(frame):
    """Insists on what the setting gives."""
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"a DataFrame is expected, not {type(frame).__name__}")
    return frame.assign(ratio=np.tanh(frame.iloc[:, 0]))
