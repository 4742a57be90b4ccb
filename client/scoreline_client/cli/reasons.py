"""Reasons of refusals as a table has room for: short in its rows, and each in full once below it."""

from __future__ import annotations

import re
from collections.abc import Iterator

MOST = 40
"""Characters of a reason in a row."""
_KEY = re.compile(r"\(key ([0-9a-f]{8})[0-9a-f]*\)")
_CLASS = re.compile(r"^[A-Z]\w+: ")
_PLACE = re.compile(r"\S*/\S*")


class Reasons:
    """The reasons of one table."""

    def __init__(self) -> None:
        self._full: dict[str, str] = {}
        self._labels: dict[str, str] = {}
        """By the reason without places, in which the rows differ."""

    def short(self, reason: str) -> str:
        """A reason as it stands in a row; the same for rows that differ in the place alone."""
        told = _CLASS.sub("", reason)
        if len(told) <= MOST:
            return told
        alike = _PLACE.sub("…", told)
        if alike not in self._labels:
            key = _KEY.search(told)
            clause = re.sub(r"^\S*/\S*: ", "", told)
            label = f"not trusted (key {key[1]})" if key else f"{clause[: MOST - 1].rstrip()}…"
            if label in self._full:
                label += f" [{len(self._full) + 1}]"
            self._labels[alike] = label
            self._full[label] = told
        return self._labels[alike]

    def lines(self) -> Iterator[str]:
        """What stands below the table: each reason in full, with its place in the first row of it."""
        for label, reason in self._full.items():
            yield f"{label}: {reason}"
