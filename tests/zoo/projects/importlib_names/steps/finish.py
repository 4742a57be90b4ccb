import importlib


def run(frame):
    names = importlib.import_module("steps.names")
    return frame[[name for name in frame.columns if name not in names.DROPPED]]
