def norm(frame):
    return frame.div((frame**2).sum(axis=1) ** 0.5, axis=0)
