import os
import sys

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

from factors import FACTOR  # noqa: E402


def widen(frame):
    from offsets import OFFSET

    return frame * FACTOR + OFFSET
