"""What to do about a step that cannot be exported: for many functions, a transformer of scikit-learn that does the same."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from scoreline_artifacts.plan import ScoringPlan, nodes
from scoreline_artifacts.schema import Column, ColumnType
from scoreline_artifacts.validation import CheckedRows

_GENERAL = (
    "put transformers of scikit-learn in its place that docs/export.md lists, such as FunctionTransformer with a function "
    "of numpy, Binarizer or KBinsDiscretizer; or let workers serve the version as it is"
)
_TRIED = ("log1p", "log", "log10", "log2", "sqrt", "cbrt", "exp", "expm1", "square", "abs", "sign", "tanh", "reciprocal")  # fmt: skip
_MOST_WHOLE = 10_000


def way_out(step: object, plan: ScoringPlan | None, columns: Sequence[Column]) -> str:
    """What could stand in a step's place, found by asking it about numbers around those of training, or general advice."""
    if not isinstance(step, nodes.Opaque) or plan is None:
        return _GENERAL
    selected = plan.nodes[step.inputs[0] - 1]
    if not isinstance(selected, nodes.Selected) or selected.names is None:
        return _GENERAL
    names = (selected.names,) if isinstance(selected.names, str) else selected.names
    chosen = [column for column in columns if column.name in names]
    if any(column.type not in (ColumnType.INTEGER, ColumnType.NUMBER) for column in chosen):
        return _GENERAL

    def ask(numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(numbers, columns) What the step gives where all columns have the same number."""
        frame = pd.DataFrame(
            {column.name: pd.Series(numbers).astype(column.dtype) for column in chosen}
        )
        selection = selected.run([CheckedRows.of(frame)])
        return np.asarray(step.transformer.transform(selection), float).reshape(len(numbers), -1)

    low = min(0.0, *(column.minimum or 0.0 for column in chosen)) - 1
    high = max(0.0, *(column.maximum or 0.0 for column in chosen)) + 1
    is_whole = all(column.type is ColumnType.INTEGER for column in chosen)
    if is_whole and high - low < _MOST_WHOLE:
        numbers = np.arange(math.floor(low), math.ceil(high) + 1, dtype=float)
    else:
        numbers = np.linspace(low, high, 2001)
        numbers = np.unique(np.round(numbers)) if is_whole else numbers
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return _replacement(ask, numbers, len(names), is_whole) or _GENERAL
    except Exception:  # noqa: BLE001 - somebody's function, asked about anything: then there is no better advice
        return _GENERAL


def _replacement(
    ask: Any, numbers: npt.NDArray[np.float64], width: int, is_whole: bool
) -> str | None:
    answers = ask(numbers)
    if answers.shape != (len(numbers), width):
        return None
    kind = "whole number" if is_whole else "number"
    where = f"for every {kind} that was tried from {numbers[0]:g} to {numbers[-1]:g}"
    for name in _TRIED:
        if np.array_equal(answers, np.tile(getattr(np, name)(numbers)[:, None], width), True):
            return f"FunctionTransformer(np.{name}) in its place gives the same {where}"
    steps = np.diff(answers[:, 0])
    if not (
        set(np.unique(answers)) == {0.0, 1.0}
        and (answers == answers[:, :1]).all()
        and np.count_nonzero(steps) == 1
        and answers[0, 0] == 0
    ):
        return None
    below, above = numbers[np.argmax(steps)], numbers[np.argmax(steps) + 1]
    least = 1.0 if is_whole else 0.0
    while above - below > least and (middle := (below + above) / 2) not in (below, above):
        middle = math.floor(middle) if is_whole else middle
        is_above = ask(np.array([middle, middle]))[0, 0] == 1
        below, above = (below, middle) if is_above else (middle, above)
    threshold = int(below) if is_whole else float(below)
    return f"Binarizer(threshold={threshold!r}) in its place gives the same {where}"
