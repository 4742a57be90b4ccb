class PostcodeError(ValueError):
    def __init__(self, code, reason):
        super().__init__(f"{code}: {reason}")
        self.code = code


class TooShort(PostcodeError):
    def __init__(self, code):
        super().__init__(code, "too short")
