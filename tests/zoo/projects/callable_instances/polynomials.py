class Polynomial:
    __slots__ = ("coefficients", "calls")

    def __init__(self, coefficients):
        self.coefficients = coefficients

    def __call__(self, frame):
        return sum(c * frame**power for power, c in enumerate(self.coefficients))

    def __getstate__(self):
        return tuple(self.coefficients)

    def __setstate__(self, state):
        self.coefficients = list(state)
