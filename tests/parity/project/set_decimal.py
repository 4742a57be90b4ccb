"""Sets the precision of decimals as soon as it is imported."""

import decimal

decimal.getcontext().prec = 4


def thirds(frame):
    """A third of each number, to four digits."""
    return frame.map(lambda one: float(decimal.Decimal(repr(float(one))) / 3))
