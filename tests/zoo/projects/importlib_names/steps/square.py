def run(frame, defaults):
    return frame.assign(bmi2=frame["bmi"] ** 2)
