"""Values of records, answers and manifests as cells of a table."""

from __future__ import annotations

import json
from typing import Any

MOST = 120
"""Characters of a cell."""


def in_short(value: Any) -> str:
    """A value with six digits of each fraction, which fits into a cell."""
    return in_full(_rounded(value))


def in_full(value: Any) -> str:
    """A value with all of its digits, and letters of any language as they are."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    return json.dumps(value, default=str, ensure_ascii=False)[:MOST]


def in_pair(one: Any, other: Any) -> tuple[str, str]:
    """Two values as cells: short, unless the difference would not be seen."""
    short = in_short(one), in_short(other)
    if short[0] != short[1] or one == other:
        return short
    return in_full(one), in_full(other)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value
