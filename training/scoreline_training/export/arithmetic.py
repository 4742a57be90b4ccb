"""What the writers of several formats have alike: the steps that they know, thresholds of trees, and targets transformed back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from scoreline_artifacts.plan import library_name, nodes
from scoreline_artifacts.plan.ends import Boosted, End, Linear, Logistic, TargetEnd, Trees
from scoreline_artifacts.plan.nodes import Node, Scale, Ufunc
from scoreline_artifacts.schema import Column

Floats = npt.NDArray[np.float64]
CODED = frozenset("OUbiuf")
"""The kinds of dtype that categories can have: text, numbers and booleans."""
_METHODS: dict[type, str] = {
    nodes.Binarize: "binarize",
    nodes.Bins: "bins",
    nodes.Columns: "column",
    nodes.Concat: "concat",
    nodes.Impute: "impute",
    nodes.OneHot: "one_hot",
    nodes.Ordinal: "ordinal",
    nodes.Pick: "pick",
    nodes.Polynomial: "polynomial",
    nodes.Project: "project",
    nodes.Scale: "scale",
    nodes.Ufunc: "ufunc",
    Boosted: "boosted",
    Linear: "linear",
    Logistic: "logistic",
    TargetEnd: "target",
    Trees: "forest",
}


class Writer:
    """Writes each kind of step by a method of its own."""

    def step(self, step: Any, *inputs: Any) -> Any:
        """Write a node or an end, given its inputs as they were written."""
        return getattr(self, _METHODS[type(step)])(step, *inputs)


def is_known(step: object) -> bool:
    """Whether a `Writer` has a method for a node or an end."""
    return type(step) in _METHODS


def is_several(end: End) -> bool:
    """Whether an end gives several numbers for a row; a table of one column is one number."""
    inner = end.inner if isinstance(end, TargetEnd) else end
    return isinstance(inner, Linear) and len(np.atleast_2d(inner.coef)) > 1


def refused_target(end: TargetEnd, takes: Callable[[Any], str | None]) -> str | None:
    """Why an estimator cannot be written that was fitted with a transformed target, or None."""
    back = steps_back(end.transformer)
    if back is None:
        return f"it transforms its target back by {type(end.transformer).__name__}, in a way that is not known"
    if isinstance(end.inner, TargetEnd):
        return "it transforms its target more than once"
    return next((why for step in (*back, end.inner) if (why := takes(step))), None)


def thresholds(tree: Any) -> Floats:
    """(nodes,) The largest number that goes left at each node of one of scikit-learn's trees.

    scikit-learn rounds a number to 32 bits before it compares it. These thresholds compare numbers of 64 bits that are
    not rounded, and no number goes another way.
    """
    exact = np.asarray(tree.threshold, np.float64)
    low = exact.astype(np.float32)
    low = np.where(low > exact, np.nextafter(low, np.float32(-np.inf)), low)
    high = np.nextafter(low, np.float32(np.inf))
    middle = (low.astype(np.float64) + high.astype(np.float64)) / 2
    # The middle of two neighbours is rounded to the one whose last bit is 0.
    is_even = low.view(np.uint32) % 2 == 0
    return np.where(is_even, middle, np.nextafter(middle, -np.inf))


def rounds_of(end: Trees | Boosted) -> list[tuple[Any, Floats]]:
    """The trees of an end in the order in which they are added up, with what each adds: (nodes, outputs)."""
    if isinstance(end, Trees):
        return [(tree, tree.value[:, 0, :]) for tree in end.trees]
    rate = end.estimator.learning_rate
    return [
        (regressor.tree_, rate * regressor.tree_.value[:, 0, :])
        for regressor in end.estimator.estimators_.ravel()
    ]


def steps_back(transformer: Any) -> Sequence[Node] | None:
    """The inverse of a target's transformer, as nodes of a plan; None if it is not known."""
    match library_name(transformer).rpartition(".")[2]:
        case "FunctionTransformer":
            function = transformer.inverse_func
            name = getattr(function, "__name__", "")
            if function is None:
                return ()
            if getattr(np, name, None) is not function or transformer.inv_kw_args:
                return None
            is_ufunc = isinstance(function, np.ufunc)
            return (Ufunc(inputs=(0,), way=name, name=name),) if is_ufunc else None
        case "StandardScaler":
            options = {
                "multiply": transformer.scale_ if transformer.with_std else None,
                "add": transformer.mean_ if transformer.with_mean else None,
            }
        case "RobustScaler":
            options = {
                "multiply": transformer.scale_ if transformer.with_scaling else None,
                "add": transformer.center_ if transformer.with_centering else None,
            }
        case "MaxAbsScaler":
            options = {"multiply": transformer.scale_}
        case "MinMaxScaler":
            options = {"subtract": transformer.min_, "divide": transformer.scale_}
        case _:
            return None
    return (Scale(inputs=(0,), way=type(transformer).__name__, **options),)


def is_missing(value: object) -> bool:
    """Whether a category is None or NaN."""
    return value is None or value != value


def missing_kind(column: Column) -> str:
    """What stands for a missing text in the frames of a column, as its schema has it; empty: nothing does."""
    if not column.nullable:
        return ""
    if column.dtype == "object":
        return column.missing
    return "NA" if column.dtype.startswith("string") else "nan"
