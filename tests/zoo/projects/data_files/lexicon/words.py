from importlib import resources
from importlib.resources import files

STOP_WORDS = set(files(__package__).joinpath("stopwords.txt").read_text().split())


def tokens(text):
    scores = resources.files("lexicon") / "data" / "scores.csv"
    known = dict(line.split(",") for line in scores.read_text(encoding="utf-8").splitlines())
    return [known.get(word, "?") for word in text.split() if word not in STOP_WORDS]
