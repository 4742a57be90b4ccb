"""Values of records, answers and manifests as cells of a table."""

from __future__ import annotations

import json
from typing import Any

MAX_CHARACTERS = 120
"""The most that a cell holds."""


def in_short(value: Any) -> str:
    """A value as a cell, with six digits of each fraction."""
    return in_full(_rounded(value))


def in_full(value: Any) -> str:
    """A value as a cell, with all of its digits, and letters of any language as they are."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    return json.dumps(value, default=str, ensure_ascii=False)[:MAX_CHARACTERS]


def in_pair(first: Any, second: Any) -> tuple[str, str]:
    """Two values as cells: short, unless the difference would not be seen."""
    short = in_short(first), in_short(second)
    if short[0] != short[1] or first == second:
        return short
    return in_full(first), in_full(second)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value
