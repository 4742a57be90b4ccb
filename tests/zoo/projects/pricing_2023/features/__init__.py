from .build import make
