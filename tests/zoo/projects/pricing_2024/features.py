import common
from common import rates


def make(frame):
    return frame.assign(
        cost=common.rounded(frame["nights"] * rates.FACTOR), many=frame["guests"] > rates.MANY
    )
