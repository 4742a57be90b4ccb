import copy
import inspect
import logging
import traceback
import warnings

from sklearn.base import BaseEstimator, TransformerMixin, clone

from looking.kinds import Kind
from looking.options import Options

log = logging.getLogger(__name__)


def squares(frame, power: int = 2):
    return frame**power  # the source says two


class Looking(TransformerMixin, BaseEstimator):
    def __init__(self, function, options=Options()):
        self.function = function
        self.options = options

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        log.debug("looking at %d rows", len(X))
        assert "two" in inspect.getsource(self.function)
        assert copy.deepcopy(self.options) == self.options == clone(self).options
        assert self.options.kind is Kind("both")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warnings.warn("from here", stacklevel=1)
        assert caught[0].filename == __file__
        try:
            raise ValueError(f"{__name__} of {__package__}: {__spec__.name}")
        except ValueError:
            assert "raise ValueError" in traceback.format_exc()
        power = inspect.signature(self.function).parameters["power"].default
        return self.function(X) * power
