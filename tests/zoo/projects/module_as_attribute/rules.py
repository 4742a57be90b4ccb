STRONG = 13.5


def is_strong(frame):
    return frame["alcohol"] > STRONG


def is_dark(frame):
    return frame["color_intensity"] > 5
