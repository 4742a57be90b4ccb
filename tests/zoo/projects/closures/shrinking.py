def shrink(frame):
    return frame * 0.9
