def sender_parts(address):
    name, _, host = address.partition("@")
    return [*name.split("."), host]


class Shingles:
    def __init__(self, size):
        self.size = size

    def of(self, text):
        return [text[i : i + self.size] for i in range(len(text) - self.size + 1)]
