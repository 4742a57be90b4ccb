import re
import unicodedata

STOP = ["the", "and"]
_WORD = re.compile(r"[a-z]+")


def clean(text):
    plain = unicodedata.normalize("NFKD", text.lower())
    return "".join(c for c in plain if not unicodedata.combining(c))


class Stemmer:
    def __init__(self, endings):
        self.endings = endings

    def __call__(self, text):
        return list(self._stems(text))

    def _stems(self, text):
        for word in _WORD.findall(text):
            end = next((one for one in self.endings if word.endswith(one)), "")
            yield word.removesuffix(end)
