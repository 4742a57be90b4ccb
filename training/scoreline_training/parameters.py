"""The parameters of a pipeline's steps as text, by which two versions can be told apart."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

MOST_PARAMETERS = 500
MOST_CHARACTERS = 120
_SECRET = re.compile(r"(?i)password|passwd|secret|api_?key|access_?key|auth_?token")
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def parameters_of(pipeline: Any) -> dict[str, str]:
    """The parameters of a pipeline and of its steps, by the names that `set_params` takes.

    A text that is too long ends with a hash, so that another one differs; secrets, by their names, are left out.
    """
    try:
        parameters = pipeline.get_params(deep=True)
        names = [name for name in sorted(parameters) if not _SECRET.search(name)][:MOST_PARAMETERS]
        return {name: _bounded(_text(parameters[name])) for name in names}
    # The pipeline's own code, which may raise anything: a version without parameters is as good.
    except Exception:  # noqa: BLE001
        return {}


def _text(value: Any) -> str:
    """A value in the same words in every process: without addresses, and sets in order."""
    if hasattr(value, "get_params"):
        return value.__name__ if isinstance(value, type) else type(value).__name__
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key!r}: {_text(item)}' for key, item in value.items())}}}"
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(map(_text, value)))}}}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_text, value))})"
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    if hasattr(value, "tolist"):
        return _text(value.tolist())
    return _ADDRESS.sub("", repr(value))


def _bounded(text: str) -> str:
    if len(text) <= MOST_CHARACTERS:
        return text
    digest = hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()
    return f"{text[:MOST_CHARACTERS]}… (sha256 {digest[:16]})"
