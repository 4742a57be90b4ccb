from functools import partial


def scaled(frame, factor, power):
    return factor * frame**power


scaled_twice = partial(scaled, factor=4, power=1)
