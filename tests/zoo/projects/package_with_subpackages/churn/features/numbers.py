from .. import constants
from ..constants import NIGHT


def busy(frame):
    return frame > constants.BUSY_CALLS


def is_night(frame):
    start, end = NIGHT
    return (frame >= start) | (frame < end)
