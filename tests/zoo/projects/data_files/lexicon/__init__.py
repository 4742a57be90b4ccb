from .regions import Regions
from .words import tokens
