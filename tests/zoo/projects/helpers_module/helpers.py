EPSILON = 1e-6


def ratio(one, other):
    return one / (other + EPSILON)
