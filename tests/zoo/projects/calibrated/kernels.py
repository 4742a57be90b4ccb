from sklearn.metrics.pairwise import linear_kernel, rbf_kernel

SHARE = 0.3


def mixed(X, Y):
    return SHARE * linear_kernel(X, Y) + (1 - SHARE) * rbf_kernel(X, Y)
