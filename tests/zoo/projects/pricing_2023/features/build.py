import common

from .rates import FACTOR


def make(frame):
    return frame.assign(cost=common.rounded(frame["nights"] * FACTOR))
