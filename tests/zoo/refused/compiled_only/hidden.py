def scale(frame):
    return frame * 2
