from datetime import timedelta
from zoneinfo import ZoneInfo

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from calendars.holidays import is_holiday

WEEK = timedelta(days=7)


class DateFeatures(TransformerMixin, BaseEstimator):
    def __init__(self, zone="UTC"):
        self.zone = zone

    def fit(self, X, y=None):
        self.zone_ = ZoneInfo(self.zone)
        return self

    def transform(self, X):
        local = X["sent"].dt.tz_convert(self.zone_)
        holidays = X["at"].dt.date.map(is_holiday)
        return np.column_stack(
            [X["at"].dt.dayofweek, local.dt.hour, holidays, X["size"], X["at"].dt.hour / WEEK.days]
        )
