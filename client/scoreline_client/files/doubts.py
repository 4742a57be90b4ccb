"""Adds up what a file's values may have meant instead, and tells it: `1.234` may be 1234, `NA` a missing value.

It also adds up what rejected rows have in common: an option with which their values would be read, lines that are
too long.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scoreline_client.shown import shown_text

_HINT = re.compile(
    r".*; ((?:is it (?:written|a spreadsheet)|dates that are |--encoding ).*)", re.DOTALL
)
"""The end of a rejected row's message where an option would have the row read."""
_TRAILING = "the line ends with a delimiter too many"
_MOST_HINTS = 5
"""Columns for which an option is named; if there are more, it is mostly the same option."""
_MOST_LINES = 5


@dataclass(slots=True)
class Doubts:
    """The doubts of a file so far, from the reports of its chunks."""

    counts: dict[str, tuple[int, str]] = field(default_factory=dict)
    """How many values there are, and an example, by `kind column`."""
    settled: set[str] = field(default_factory=set)
    """Columns with a fraction that is no group of thousands."""

    def add(self, report: Mapping[str, Any] | None) -> None:
        """Add a worker's report of a chunk; one of an earlier release does not speak of doubts."""
        if not report:
            return
        self.settled.update(report.get("settled", ()))
        for doubt in report.get("doubts", ()):
            key = f"{doubt['kind']} {doubt['column']}"
            count, example = self.counts.get(key, (0, doubt["example"]))
            self.counts[key] = (count + doubt["count"], example)
        for column in self.settled:
            self.counts.pop(f"thousands {column}", None)

    def add_problems(self, problems: Iterable[Mapping[str, Any]]) -> None:
        """Add the options that messages about rejected rows name."""
        for problem in problems:
            if _TRAILING in problem["message"]:
                self.counts["trailing "] = (self.counts.get("trailing ", (0, ""))[0] + 1, "")
            elif hint := _HINT.fullmatch(problem["message"]):
                # Messages about another encoding differ in the word that they quote: it is the example.
                advice, _, word = hint[1].partition(" would read ")
                key = f"hint {problem.get('column') or ''}\n{advice}"
                count, example = self.counts.get(key, (0, word or problem.get("value") or ""))
                self.counts[key] = (count + 1, example)

    def add_longer(self, lines: Sequence[int]) -> None:
        """Add the lines that have more fields in the output than its header."""
        if lines:
            count, listed = self.counts.get("longer ", (0, ""))
            first = [*filter(None, listed.split(", ")), *map(str, lines)][:_MOST_LINES]
            self.counts["longer "] = (count + len(lines), ", ".join(first))

    def notes(self, rows: int) -> list[str]:
        """A sentence for each doubt of a file of so many rows, with the option that would read its values otherwise."""
        notes, hints = list[str](), list[str]()
        for key, (count, example) in self.counts.items():
            kind, _, column = key.partition(" ")
            name, text = shown_text(column, in_line=True), shown_text(example, in_line=True)
            if kind == "hint":
                column, _, hint = column.rpartition("\n")
                name, of_all = shown_text(column, in_line=True), f"{count:,} of {rows:,}"
                verb = "value is" if rows == 1 else "values are"
                hints.append(
                    f"{name}: {of_all} {verb} like {text}: {hint}"
                    if column
                    else f"{of_all} lines are not in this encoding: {hint} would read {text}"
                )
            elif kind == "trailing":
                which = "the only line ends" if rows == 1 else f"{count:,} of {rows:,} lines end"
                hints.append(
                    f"{which} with a delimiter too many: --trailing-delimiter reads past it"
                )
            elif kind == "longer":
                more = f" and {count - _MOST_LINES:,} more" if count > _MOST_LINES else ""
                which = f"line {text} has" if count == 1 else f"lines {text}{more} have"
                notes.append(
                    f"{which} more fields than the header, in the output, too, which pandas does not read; where columns "
                    "are chosen (--keep, --drop), each line has as many as the header"
                )
            elif kind == "thousands":
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
        if len(hints) > _MOST_HINTS:
            summary = f"{len(hints) - _MOST_HINTS:,} more columns have values that an option would have read"
            hints[_MOST_HINTS:] = [f"{summary}: see the messages of rejected rows"]
        return [*notes, *hints]
