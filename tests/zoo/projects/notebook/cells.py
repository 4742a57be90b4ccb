def twice(column):
    return 2 * column


def spread(frame):
    return frame.assign(distance=(frame["x"] ** 2 + twice(frame["y"]) ** 2) ** 0.5)
