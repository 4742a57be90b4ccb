bend = lambda frame: frame.clip(lower=0)


def flat(frame):
    return frame * 0


def scorer(estimator, X, y):
    return -abs(estimator.predict(X) - y).max()
