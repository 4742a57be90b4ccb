def halve(frame):
    return frame / 2
