def run(frame, defaults):
    return frame + defaults.AMOUNT
