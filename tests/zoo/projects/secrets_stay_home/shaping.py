def shape(frame):
    return frame.assign(c=frame["a"] * frame["b"])
