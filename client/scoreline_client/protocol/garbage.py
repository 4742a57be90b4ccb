"""Python's collector of garbage, kept out while very many objects are made that all stay.

It runs every few hundred of them, and now and then looks at the whole heap: in a program with large
libraries loaded that takes as long as scoring all of the records.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_search_for_garbage() -> Iterator[None]:
    """Leave the collector out inside the block, unless somebody has turned it off already."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
