import enum


class Metric(enum.Enum):
    EUCLIDEAN = "euclidean"
    CITY = "cityblock"
