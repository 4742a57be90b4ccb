from importlib import resources


def scale(frame):
    return frame * resources.files("tables").joinpath("huge.bin").read_bytes()[0]
