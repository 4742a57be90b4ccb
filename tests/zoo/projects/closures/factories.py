import shrinking


def power(n):
    def times(frame, left):
        return frame if left <= 1 else frame * times(frame, left - 1)

    return lambda frame: times(frame, n)


def standardizer(frame):
    mean, deviation = frame.mean(), frame.std()

    def standardize(other):
        return shrinking.shrink((other - mean) / deviation)

    return standardize


def chained(*steps):
    calls = 0

    def run(frame):
        nonlocal calls
        calls += 1
        for step in steps:
            frame = step(frame)
        return frame

    return run
