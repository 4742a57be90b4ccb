from registry import Feature, Named


class Ratio(Feature):
    def of(self, frame):
        return frame["proline"] / (1 + super().of(frame))


class Product(Feature):
    def of(self, frame):
        return frame["hue"] * frame["flavanoids"]


class FirstColumn(Named, nickname="first"):
    def __call__(self, frame):
        return frame["alcohol"]
