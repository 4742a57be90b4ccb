"""Reasons of refusals as a table has room for: short in its rows, and each in full once below it."""

from __future__ import annotations

import re
from collections.abc import Iterator

MOST = 40
"""Characters of a reason in a row."""
_KEY = re.compile(r"\(key ([0-9a-f]{8})[0-9a-f]*\)")
_CLASS = re.compile(r"^[A-Z]\w+: ")
_PATH = re.compile(r"\S*/\S*")


class Reasons:
    """The reasons of one table."""

    def __init__(self) -> None:
        self._full: dict[str, str] = {}
        self._labels: dict[str, str] = {}
        """By the reason without its paths, in which the rows differ."""

    def short(self, reason: str) -> str:
        """A reason as it stands in a row; the same for reasons that differ in their paths alone."""
        text = _CLASS.sub("", reason)
        if len(text) <= MOST:
            return text
        without_paths = _PATH.sub("…", text)
        if without_paths not in self._labels:
            key = _KEY.search(text)
            clause = re.sub(r"^\S*/\S*: ", "", text)
            label = f"not trusted (key {key[1]})" if key else f"{clause[: MOST - 1].rstrip()}…"
            if label in self._full:
                label += f" [{len(self._full) + 1}]"
            self._labels[without_paths] = label
            self._full[label] = text
        return self._labels[without_paths]

    def lines(self) -> Iterator[str]:
        """The lines below the table: each reason in full, with the path of its first row."""
        for label, reason in self._full.items():
            yield f"{label}: {reason}"
