from problems import PostcodeError, TooShort


def area(code):
    if len(code) < 2:
        raise TooShort(code)
    if not code.isdigit() or len(code) != 5:
        raise PostcodeError(code, "no postcode")
    return int(code[:2])
