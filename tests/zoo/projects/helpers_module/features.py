import helpers


def add_ratios(frame):
    return frame.assign(
        density=helpers.ratio(frame["mean area"], frame["mean radius"]),
        rough=helpers.ratio(frame["mean texture"], frame["mean radius"]),
    )
