def as_dicts(frame):
    return frame.to_dict("records")
