"""`OUT.errors.csv`: a line for each rejected row, with what is wrong where."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

COLUMNS = ("row", "line", "column", "value", "code", "message")


class ErrorReport:
    """The report of one run. A file is there from the first rejected row on."""

    def __init__(self, path: Path | None, length: int = 0) -> None:
        """Go on behind the first `length` bytes of a report; no path: nobody wants one."""
        self.length = length
        self._path = path
        if path is not None and length == 0:
            path.unlink(missing_ok=True)

    @property
    def is_wanted(self) -> bool:
        """Whether anybody reads it."""
        return self._path is not None

    def write(self, problems: Iterable[dict[str, Any]]) -> None:
        """Add rejected rows."""
        text = io.StringIO()
        lines = csv.DictWriter(
            text, COLUMNS, restval="", extrasaction="ignore", lineterminator="\n"
        )
        if self.length == 0:
            lines.writeheader()
        before = text.tell()
        lines.writerows(problems)
        if self._path is None or text.tell() == before:
            return
        data = text.getvalue().encode("utf-8", "backslashreplace")
        with self._path.open("ab", buffering=0) as file:
            file.truncate(self.length)
            file.write(data)
        self.length += len(data)
