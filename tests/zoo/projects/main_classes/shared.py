__all__ = ["starred"]
DEFAULT = 0.25


def starred(column):
    return column * (1 + DEFAULT)
