import os


def regional(frame):
    return frame * int(os.environ["REGION_FACTOR"])
