"""Gives memory back to the system, and keeps what processes share shared."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress


def settle() -> None:
    """Forget what is not used any more, and keep the garbage collector off what is left.

    To look at an object, the collector writes to its page, and then no child shares that page.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    trim()


def trim() -> None:
    """Give freed memory back: the C library keeps it for itself, in every process that shares it."""
    with suppress(AttributeError, OSError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)
