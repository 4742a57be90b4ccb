def power(n):
    def apply(frame, scale=1):
        return (frame * scale) ** n

    return apply
