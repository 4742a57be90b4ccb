from functools import update_wrapper, wraps


def logged(function):
    @wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


def bare(function):
    def wrapper(*args):
        return function(*args)

    return wrapper


def repeated(times):
    def decorate(function):
        @wraps(function)
        def wrapper(frame):
            for _ in range(times):
                frame = function(frame)
            return frame

        return wrapper

    return decorate


class Counted:
    def __init__(self, function):
        update_wrapper(self, function)
        self.function = function
        self.calls = 0

    def __call__(self, *args):
        self.calls += 1
        return self.function(*args)
