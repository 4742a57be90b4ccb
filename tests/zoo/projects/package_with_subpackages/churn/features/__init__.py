from .numbers import busy, is_night
