import numpy as np
import pandas as pd


def load():
    rng = np.random.default_rng(12)
    spam = rng.random(150) > 0.5
    senders = np.where(spam, "win@prizes.example", "ann.lee@office.example")
    bodies = [
        rng.choice(
            ["you won money", "cheap pills"] if one else ["see you at noon", "notes attached"]
        )
        for one in spam
    ]
    return pd.DataFrame({"sender": senders, "body": bodies}), np.where(spam, "spam", "ham")
