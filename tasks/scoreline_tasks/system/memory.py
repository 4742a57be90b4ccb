"""Gives memory back to the system or keeps it, and keeps what processes share shared."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress

# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 16 << 20
"""So much of what is free a process that serves keeps for its next batch."""
BLOCK_BYTES = 8 << 20
"""What is larger is asked of the system each time, and given back at once."""


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


def keep_freed() -> None:
    """Use freed memory again for the next batch, instead of giving it back in between.

    Batches of a process that serves take the same few megabytes over and over. What was given back comes
    page by page, each cleared by the system: with frames that was a third of all that a process did.
    """
    with suppress(AttributeError, OSError):  # not glibc
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, BLOCK_BYTES)
        library.mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
