from train import enlarge


def twice(frame):
    return enlarge(frame) ** 2
