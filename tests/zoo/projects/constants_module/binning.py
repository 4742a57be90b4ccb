import numpy as np

from constants import BINS, MISSING


def to_bins(frame, bins=BINS, missing=MISSING):
    assert missing is MISSING
    return np.column_stack([np.digitize(frame[name], edges) for name, edges in bins.items()])
