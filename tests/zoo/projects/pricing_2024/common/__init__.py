from math import ceil


def rounded(column):
    return column.map(ceil)
