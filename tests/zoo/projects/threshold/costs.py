def cost(y, predicted, missed=1):
    return -((y < predicted).sum() * missed + (y > predicted).sum())
