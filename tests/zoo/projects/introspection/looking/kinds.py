from enum import Enum


class Kind(str, Enum):
    BOTH = "both"
    NONE = "none"
