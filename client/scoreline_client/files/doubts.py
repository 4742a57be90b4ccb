"""Adds up what a file's values may have meant instead, and tells it: `1.234` may be 1234, `NA` a missing value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scoreline_client.shown import shown_text


@dataclass(slots=True)
class Doubts:
    """The doubts of a file so far, from the reports of its chunks."""

    found: dict[str, tuple[int, str]] = field(default_factory=dict)
    """How many values there are, and one of them, by `kind column`."""
    settled: set[str] = field(default_factory=set)
    """Columns with a fraction that is no group of thousands."""

    def add(self, report: Mapping[str, Any] | None) -> None:
        """Add a worker's report of a chunk; one of an earlier release does not speak of doubts."""
        if not report:
            return
        self.settled.update(report.get("settled", ()))
        for doubt in report.get("doubts", ()):
            key = f"{doubt['kind']} {doubt['column']}"
            count, example = self.found.get(key, (0, doubt["example"]))
            self.found[key] = (count + doubt["count"], example)
        for column in self.settled:
            self.found.pop(f"thousands {column}", None)

    def notes(self) -> list[str]:
        """A sentence for each doubt, with the options that would have the values read otherwise."""
        notes = []
        for key, (count, example) in self.found.items():
            kind, _, column = key.partition(" ")
            name, text = shown_text(column, in_line=True), shown_text(example, in_line=True)
            if kind == "thousands":
                notes.append(
                    f"{name}: could be {text.replace('.', '')} (--decimal , --thousands .): {text} was read with a "
                    "decimal point, and no number there has other than three digits behind it"
                )
            else:
                times = "once" if count == 1 else f"{count:,} times"
                notes.append(
                    f"{name}: {text!r} is there {times}, and was read as text: --null {text} if it stands for a "
                    "missing value"
                )
        return notes
