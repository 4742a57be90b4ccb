"""datetime columns, with and without a time zone, and holidays from a local calendar"""

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestRegressor
from sklearn.pipeline import make_pipeline

from calendars.features import DateFeatures
from scoreline_training import publish

rng = np.random.default_rng(15)
hours = pd.to_timedelta(rng.integers(0, 24 * 365, 160), unit="h")
X = pd.DataFrame(
    {
        "at": pd.Timestamp("2024-01-01") + hours,
        "sent": pd.Timestamp("2024-01-01", tz="UTC") + hours[::-1],
        "size": rng.integers(1, 9, 160),
    }
)
y = X["at"].dt.dayofweek * 2.0 + X["size"]
model = make_pipeline(
    DateFeatures(zone="Europe/Berlin"), RandomForestRegressor(8, random_state=0, n_jobs=2)
)
publish(model.fit(X, y), "dates", X, y)
