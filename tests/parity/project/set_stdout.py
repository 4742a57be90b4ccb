"""Sets how text is printed as soon as it is imported."""

import sys

sys.stdout.reconfigure(encoding="ascii", errors="backslashreplace")


def told(frame):
    """Print what every output must be able to print, and return the frame."""
    print("größe ✓")  # noqa: T201
    return frame
