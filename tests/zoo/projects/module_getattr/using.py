import lazy


def apply(frame):
    return lazy.halve(lazy.double(frame)) + lazy.AMOUNT
