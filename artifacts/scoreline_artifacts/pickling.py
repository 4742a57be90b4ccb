"""dill in, dill out.

Functions and classes of modules are stored by reference, those of `__main__` and of notebooks by
value. Where the sources of a training project's own modules will travel, this is the place.
"""

from __future__ import annotations

import io
from typing import Any


def dump(pipeline: object) -> bytes:
    """Serialise a fitted pipeline."""
    import dill

    buffer = io.BytesIO()
    # recurse: a function of __main__ takes along only the globals that it uses, not all of them.
    dill.dump(pipeline, buffer, recurse=True)
    return buffer.getvalue()


def restore(data: bytes) -> Any:
    """Unpickle bytes that were verified; never call it with others."""
    import dill

    return dill.loads(data)  # noqa: S301 - only verified bytes come here
