import importlib

_WHERE = {"double": "._twice", "halve": "._half"}
__all__ = ["AMOUNT", *_WHERE]


def __getattr__(name):
    if name == "AMOUNT":
        return 0.125
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return __all__
