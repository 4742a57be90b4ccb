"""Sets pandas' options as soon as it is imported."""

import pandas as pd

pd.set_option("display.precision", 2)
pd.set_option("display.max_colwidth", 9)


def printed(frame):
    """The length of each row as pandas prints it."""
    return pd.DataFrame(
        {"length": [len(frame.iloc[[row]].to_string()) for row in range(len(frame))]},
        index=frame.index,
    )
