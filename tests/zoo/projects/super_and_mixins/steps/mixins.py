class Clipping:
    limit = 0.1

    def change(self, frame):
        return super().change(frame.clip(-self.limit, self.limit))


class Scaling:
    def __init__(self, *args, factor=3, **kwargs):
        super().__init__(*args, **kwargs)
        self.factor = factor

    def change(self, frame):
        return frame * self.factor
