import customers


def weigh(frame):
    return frame * customers.weight_of("wine")


def base_weight():
    return 2.0
