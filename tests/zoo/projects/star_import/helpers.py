from maths import *

__all__ = ["squeeze"]


def squeeze(frame):
    return stretch(frame).clip(-LIMIT, LIMIT)
