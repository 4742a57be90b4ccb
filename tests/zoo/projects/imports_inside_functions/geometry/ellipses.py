def area(length, width):
    from math import pi

    return pi * length * width / 4
