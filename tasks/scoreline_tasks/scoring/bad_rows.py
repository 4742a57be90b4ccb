"""Finds the rows that make a pipeline raise, in a bounded number of calls, and answers all others.

Each row that fails has raised alone, or is equal in all its values to one that has; nothing else is concluded from
other rows. So a bad row costs a call or two, and a good one shares its call with as many as possible: rows are
halved, and once one bad row is known, those that have a value in common with it are tried apart from the rest,
which is most often good then.

A request in which nearly every row raises, or too many do, is refused with the reason: the fault is not in its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from scoreline_artifacts.loading.version import Scores

if TYPE_CHECKING:
    import pandas as pd

ENOUGH = 256
"""Rows that must have raised alone before a request is refused because nearly all of them raise."""
NEARLY_ALL = 0.8
SAMPLE = 64
"""Rows from all over the request that are tried before that: bad rows may stand together at its beginning."""
RAISING_CALLS = 2048
"""Calls that may raise before a request is refused because too many rows raise."""
LEAF = 4
"""Rows that are scored one by one instead of being halved again: the same number of calls or fewer."""
SIMILAR = 8
"""Bad rows whose values are looked for in other rows."""
COLUMNS = 8
"""Columns that are tried for such a value."""

Rows = npt.NDArray[np.intp]
Part = tuple[Rows, Scores | Exception]
"""Rows of a frame with their scores, or equal rows with what the pipeline raised for one of them."""


class TooManyBadRows(Exception):
    """Raised when a pipeline raises for so many rows that the others are not looked for."""

    def __init__(self, raised: int, scored: int, count: int, error: Exception) -> None:
        super().__init__(
            f"the pipeline raised for {raised:,} of {scored:,} records, each of them alone, so the remaining "
            f"{count - scored:,} were not scored: {type(error).__name__}: {error}"[:800]
        )


class BadRowSearch:
    """Scores a frame for which the pipeline has raised."""

    def __init__(
        self,
        score: Callable[[pd.DataFrame], Scores],
        frame: pd.DataFrame,
        pause: Callable[[], None] = lambda: None,
    ) -> None:
        """`score` is called with rows in a frame of their own, and may write into it; `pause` between two calls."""
        self._score = score
        self._frame = frame
        self._pause = pause
        self._parts: list[Part] = []
        self._raising_calls = 0
        self._is_sampled = False
        self._bad: list[int] = []
        self._all_suspect = False
        """Whether the rows that wait share a value, and no row without it is bad."""
        self._good = np.zeros(len(frame), dtype=bool)
        self._settled = np.zeros(len(frame), dtype=bool)
        self._keys: list[tuple[str, ...]] = []
        self._equal: dict[tuple[str, ...], list[int]] | None = None
        """Rows by their values, once it is known that some are bad."""

    def run(self) -> Sequence[Part]:
        """Score all rows; the parts hold each of them once, in any order.

        Raises:
            TooManyBadRows: nearly every row raises, or too many do.
        """
        # Sets of rows that raise together, the first rows at the end.
        waiting: list[Rows] = [np.arange(len(self._frame))]
        while waiting:
            rows = waiting.pop()
            unsettled = rows[~self._settled[rows]]
            if not len(unsettled) or (len(unsettled) < len(rows) and self._try(unsettled)):
                continue  # those that made the set raise are settled already
            bad_before = len(self._bad)
            if len(unsettled) <= LEAF or self._all_suspect:
                for index, row in enumerate(unsettled):
                    if self._settled[row] or not self._try(np.array([row])):
                        continue
                    if self._all_suspect:
                        # Not all of them are bad after all: the others are halved like any rows.
                        self._all_suspect = False
                        waiting.append(unsettled[index:])
                        break
            else:
                first, second = np.array_split(unsettled, 2)
                # If the first half is good, it is the second that raises.
                is_first_good = self._try(first)
                if is_first_good or not self._try(second):
                    waiting.append(second)
                if not is_first_good:
                    waiting.append(first)
            if bad_before < len(self._bad) <= SIMILAR and waiting:
                waiting = self._similar_apart(waiting)
        return self._parts

    def _try(self, rows: Rows) -> bool:
        """Score rows in one call; returns whether they are good. One that raises alone is settled with its equals."""
        self._pause()
        try:
            # As in a frame of their own: a step may glue columns to it that have a fresh index.
            scores = self._score(self._frame.iloc[rows].reset_index(drop=True))
        # Whatever a pipeline raises is about these rows; alone it becomes the row's error.
        except Exception as error:
            self._raising_calls += 1
            if len(rows) == 1:
                self._bad.append(int(rows[0]))
                equal = self._equal_to(int(rows[0]))
                self._settled[equal] = True
                self._parts.append((equal, error))
            bad, scored = len(self._bad), len(self._bad) + int(self._good.sum())
            is_hopeless = self._raising_calls > RAISING_CALLS and bad > 0
            if not self._is_sampled and bad >= ENOUGH and bad >= NEARLY_ALL * scored:
                self._is_sampled = True
                unsettled = np.flatnonzero(~self._settled)
                last, count = len(unsettled) - 1, min(SAMPLE, len(unsettled))
                spread = unsettled[np.linspace(0, last, count).astype(int)]
                # Some may have become settled meanwhile, by being equal to one before them.
                are_good = [self._try(np.array([row])) for row in spread if not self._settled[row]]
                is_hopeless |= sum(are_good) <= (1 - NEARLY_ALL) * len(are_good)
            if is_hopeless:
                bad, scored = len(self._bad), len(self._bad) + int(self._good.sum())
                raise TooManyBadRows(bad, scored, len(self._good), error) from error
            return False
        self._good[rows] = self._settled[rows] = True
        self._parts.append((rows, scores))
        return True

    def _equal_to(self, row: int) -> Rows:
        """The rows that are not settled and have the very values of a row: 0.0 is not -0.0, nor None NaN."""
        if self._equal is None:
            columns = [
                map(repr, self._frame.iloc[:, column].tolist())
                for column in range(self._frame.shape[1])
            ]
            self._keys = list(zip(*columns, strict=True))
            self._equal = {}
            for index, key in enumerate(self._keys):
                self._equal.setdefault(key, []).append(index)
        equal = np.array(self._equal[self._keys[row]], dtype=np.intp)
        return equal[~self._settled[equal]]

    def _similar_apart(self, waiting: list[Rows]) -> list[Rows]:
        """Separate the rows that share a value with the last bad one, if the rest is good without them."""
        rows = np.sort(np.concatenate(waiting))
        rows = rows[~self._settled[rows]]
        candidates: list[tuple[int, Rows]] = []
        for index in range(self._frame.shape[1]):
            column = self._frame.iloc[:, index]
            value = column.iloc[self._bad[-1]]
            same = column.isna() if is_missing(value) else column == value
            mask = same.to_numpy(dtype=bool, na_value=False)
            # A value of a good row is no fault by itself.
            if (mask & self._good).any():
                continue
            suspects = rows[mask[rows]]
            if 0 < len(suspects) < len(rows):
                candidates.append((len(suspects), suspects))
        candidates.sort(key=lambda candidate: candidate[0], reverse=True)
        for _, suspects in candidates[:COLUMNS]:
            if self._try(np.setdiff1d(rows, suspects)):
                self._all_suspect = True
                return [suspects]
        return waiting


def is_missing(value: object) -> bool:
    return value is None or value != value
