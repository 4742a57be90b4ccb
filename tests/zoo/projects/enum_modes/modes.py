from enum import Enum, Flag, StrEnum, auto


class Mode(Enum):
    LOG = "log"
    ROOT = auto()

    @property
    def power(self):
        return {Mode.LOG: 0, Mode.ROOT: 0.5}[self]


class Checks(Flag):
    FINITE = auto()
    POSITIVE = auto()


class Column(StrEnum):
    ALCOHOL = auto()
    MAGNESIUM = auto()
