"""Functions of a project's own, as people put them into FunctionTransformer."""

import concurrent.futures

import numpy as np
import pandas as pd

LIMIT = 1e5


def doubled(frame):
    """The numbers, twice as large."""
    return frame.select_dtypes("number") * 2


def glued(frame):
    """One more column, glued on by a fresh index."""
    extra = pd.DataFrame({"twice": np.asarray(frame.iloc[:, 0], float) * 2})
    return pd.concat([frame, extra], axis=1)


def refuses_large(frame):
    """Raise for a value that no training row has."""
    if (np.abs(np.asarray(frame.iloc[:, 0], float)) > LIMIT).any():
        raise ValueError("too large for this model")
    return frame


def refuses_all_but_training(frame):
    """Raise for every number above those of training."""
    if (frame["b"] > 19).any():
        raise ValueError("not of this quarter")
    return frame


def written_first(frame):
    """Write into the first cell."""
    frame.iloc[0, 0] = 0
    return frame


def written_by_mask(frame):
    """Write where a condition holds."""
    frame[frame < 0] = 0
    return frame


def written_by_loc(frame):
    """Write into a column where a condition holds."""
    frame.loc[frame["a"] > 1, "a"] = 1
    return frame


def written_in_place(frame):
    """Fill and clip without a copy."""
    frame.fillna(0, inplace=True)
    frame.clip(-1, 1, inplace=True)
    return frame


def dummies(frame):
    """One column for each value that is there: depends on the rows of a call."""
    return pd.get_dummies(frame["color"]).reindex(columns=["red", "green", "blue"], fill_value=0)


def centred(frame):
    """Differences from the mean of the rows of a call."""
    numbers = frame.select_dtypes("number")
    return numbers - numbers.mean()


def parts_of_dates(frame):
    """Numbers out of dates."""
    parts = {}
    for name, column in frame.items():
        if column.dtype.kind == "M" or isinstance(column.dtype, pd.DatetimeTZDtype):
            parts[f"{name} day"] = column.dt.dayofyear.fillna(0)
            parts[f"{name} hour"] = column.dt.hour.fillna(0)
        else:
            parts[name] = column
    return pd.DataFrame(parts, index=frame.index)


def lengths_of_texts(frame):
    """Each text's length, and 0 for a missing one."""
    return frame.apply(
        lambda column: (
            column.astype(object).map(lambda one: len(one) if isinstance(one, str) else 0)
            if column.dtype.kind not in "if"
            else column
        )
    )


def codes(frame):
    """Categories as whole numbers."""
    return frame.apply(lambda column: column.cat.codes if column.dtype == "category" else column)


def is_frame(frame):
    """Insist on a frame: what the steps before give depends on scikit-learn's settings."""
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"a DataFrame is expected, not {type(frame).__name__}")
    return frame


def is_array(values):
    """Insist on an array."""
    if not isinstance(values, np.ndarray):
        raise TypeError(f"an array is expected, not {type(values).__name__}")
    return values


def as_floats(frame):
    """Nullable numbers and booleans as floats."""
    return frame.astype("Float64").to_numpy(float, na_value=np.nan)


def absolute_elsewhere(frame):
    """Absolute values, by processes of its own."""
    numbers = np.asarray(frame.iloc[:, 0], float).tolist()
    with concurrent.futures.ProcessPoolExecutor(1) as pool:
        return np.array([list(pool.map(abs, numbers))]).T
