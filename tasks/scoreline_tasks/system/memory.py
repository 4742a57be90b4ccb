"""Gives unused memory back to the system, and keeps the pages shared that a worker's processes share."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress

# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 16 << 20
"""Free memory that a process that serves keeps for its next batch."""
BLOCK_BYTES = 8 << 20
"""Larger blocks are mapped and unmapped each time."""


def settle() -> None:
    """Collect garbage, then exempt all remaining objects from collection.

    The collector writes to the page of every object that it visits, and a child of this process then no
    longer shares that page.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    trim()


def trim() -> None:
    """Give freed memory back to the system: the C library keeps it otherwise."""
    with suppress(AttributeError, OSError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


def keep_freed() -> None:
    """Raise malloc's trim threshold, so that the next batch reuses freed pages.

    The batches of a process that serves take the same few megabytes over and over. Pages that were given
    back return one by one, each cleared by the system: with frames that was a third of a process's time.
    """
    with suppress(AttributeError, OSError):  # not glibc
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, BLOCK_BYTES)
        library.mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
