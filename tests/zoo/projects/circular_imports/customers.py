import orders

EXTRA = 0.5


def weight_of(kind):
    from orders import base_weight

    return base_weight() + orders.base_weight() * EXTRA * len(kind)
