import numpy as np
import pandas as pd

WORDS = {
    "invoice": ["Invoice", "paid", "paying", "bills", "amount", "überfällig"],
    "travel": ["flight", "Hotels", "booked", "flying", "trains", "café"],
    "sport": ["goals", "scoring", "Team", "played", "match", "naïve"],
}


def load():
    rng = np.random.default_rng(11)
    topics = rng.choice(list(WORDS), 180)
    return pd.DataFrame(
        {"subject": [" ".join(rng.choice(WORDS[one], 4)) + " the 42!" for one in topics]}
    ), topics
