def double(frame):
    return frame * 2
