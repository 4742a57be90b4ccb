import numpy as np
from sklearn.gaussian_process.kernels import RBF


class Halved(RBF):
    def __call__(self, X, Y=None, eval_gradient=False):
        found = super().__call__(X, Y, eval_gradient)
        return (found[0] / 2, found[1] / 2) if eval_gradient else found / 2

    def diag(self, X):
        return super().diag(X) / 2


def grid(objective, theta, bounds):
    tries = np.log([0.5, 1.0, 2.0])
    values = [objective(np.array([one]), eval_gradient=False) for one in tries]
    return np.array([tries[np.argmin(values)]]), min(values)
