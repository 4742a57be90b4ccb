def rounded(column):
    return column.round(1)
