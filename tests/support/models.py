"""Pipelines for tests: a few lines each, with the methods that Scoreline calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

NO_YES = ("no", "yes")


class Predictor:
    """A regressor whose answers are a function of the frame; counts the rows of each call."""

    def __init__(self, answer: Callable[[pd.DataFrame], Any]) -> None:
        self.sizes: list[int] = []
        self._answer = answer

    def predict(self, frame: pd.DataFrame) -> Any:
        """Call the function, which may return anything or raise."""
        self.sizes.append(len(frame))
        return self._answer(frame)


class Classifier:
    """Two classes: the second one where a condition on the frame holds, everywhere without one.

    The probabilities are 0.25 and 0.75 for every row.
    """

    def __init__(
        self,
        condition: Callable[[pd.DataFrame], Any] | None = None,
        classes: Sequence[Any] = NO_YES,
    ) -> None:
        self.classes_ = np.array(classes)
        self._condition = condition

    def predict(self, frame: pd.DataFrame) -> npt.NDArray[Any]:
        """Return a class for each row."""
        holds = np.ones(len(frame), bool) if self._condition is None else self._condition(frame)
        return np.where(holds, self.classes_[1], self.classes_[0])

    def predict_proba(self, frame: pd.DataFrame) -> npt.NDArray[Any]:
        """Return two probabilities for each row."""
        return np.tile([0.25, 0.75], (len(frame), 1))


def column_x(frame: pd.DataFrame) -> npt.NDArray[Any]:
    """Return the column x as it is; for a Predictor."""
    return np.asarray(frame["x"])
