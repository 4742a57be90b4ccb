"""Looks at itself."""

import warnings

from . import options
