import shop.taxes.rates as rates


def net(price):
    return price / (1 + rates.FULL)
