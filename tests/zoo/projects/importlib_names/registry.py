import importlib
from importlib import import_module

DEFAULTS = importlib.import_module("defaults")


def run_steps(frame, names):
    for name in names:
        step = import_module(f"steps.{name}")
        frame = step.run(frame, DEFAULTS)
    return import_module(".finish", package="steps").run(frame)
