def diagonal(length, width):
    from .roots import root

    return root(length**2 + width**2)
