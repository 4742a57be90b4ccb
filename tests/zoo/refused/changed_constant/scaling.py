MEAN = 0


def centre(frame):
    return frame - MEAN
