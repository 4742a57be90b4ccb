"""A plan as JSON: its steps with their coefficients, in words of a few operations, and a program in numpy that scores it.

`docs/plan-format.md` says what each operation is, so that a program in any language can be written; this one is the pattern.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pandas as pd

from scoreline_artifacts.plan import ScoringPlan, ends, nodes
from scoreline_artifacts.schema import Column
from scoreline_training.export.arithmetic import CODED, missing_kind, refused_target, steps_back
from scoreline_training.export.formats import About, Evaluator, Format, Scored

Array = npt.NDArray[Any]
VERSION = "scoreline-plan/1"
_WHOLE = 2**53
"""The first whole number that shares its double with another one."""
_LOSSES = {
    "HalfBinomialLoss": "expit",
    "ExponentialLoss": "expit of twice",
    "HalfMultinomialLoss": "softmax",
}
_UFUNCS = frozenset(
    {
        "abs", "absolute", "arctan", "arcsinh", "cbrt", "ceil", "cos", "cosh", "exp", "exp2", "expm1", "fabs", "floor",
        "log", "log10", "log1p", "log2", "negative", "reciprocal", "rint", "sign", "sin", "sinh", "sqrt", "square",
        "tan", "tanh", "trunc",
    }
)  # fmt: skip


def _takes(step: Any) -> str | None:
    match step:
        case nodes.Ufunc() if step.name not in _UFUNCS:
            return f"it has the function numpy.{step.name}, which the format does not know"
        case nodes.Columns() if np.dtype("f2") in step.dtypes:
            return "it reads floats of 16 bits"
        case nodes.OneHot() | nodes.Ordinal():
            for categories in step.categories:
                if categories.dtype.kind not in CODED:
                    return f"it has categories of the type {categories.dtype}"
                if categories.dtype.kind in "iu" and any(
                    abs(value) >= _WHOLE for value in categories.tolist()
                ):
                    return "it has whole numbers beyond 2^53 as categories, which doubles do not tell apart"
        case ends.Boosted() if step.labels is not None:
            name = type(step.estimator._loss).__name__
            if name not in _LOSSES:
                return f"its probabilities come from the loss {name}"
        case ends.TargetEnd():
            return refused_target(step, _takes)
        case nodes.Node() | ends.End():
            pass
    return None if type(step) in _WRITTEN else "it has no form in JSON"


def _write(plan: ScoringPlan, columns: Sequence[Column], about: About) -> bytes:
    named = {name for node in plan.nodes if isinstance(node, nodes.Columns) for name in node.names}
    header = {
        "format": VERSION,
        "model": about.model,
        "version": about.version,
        "columns": {
            column.name: [column.type, "null"] if column.nullable else column.type
            for column in columns
            if column.name in named
        },
    }
    by_name = {column.name: column for column in columns}
    written: list[nodes.Node | ends.End] = []
    # What stands for a missing text in the values of each step, by column; step 0 is the record.
    kinds: list[tuple[str, ...]] = [()]
    for node in plan.nodes:
        step: nodes.Node = node
        kind: tuple[str, ...] = ()
        match node:
            case nodes.Columns():
                kind = tuple(missing_kind(by_name[name]) for name in node.names)
            case nodes.Concat():
                kind = sum((kinds[index] for index in node.inputs), ())
            case nodes.Impute() if (
                node.statistics.dtype == object
                # Else other steps lie between: the proof decides.
                and len(kinds[node.inputs[0]]) == len(node.statistics)
            ):
                # scikit-learn's imputer leaves None where it is.
                kind = tuple(
                    "" if missing == "nan" else missing for missing in kinds[node.inputs[0]]
                )
                pairs = zip(node.statistics.tolist(), kind, strict=True)
                puts = np.array([None if missing else value for value, missing in pairs], object)
                step = replace(node, statistics=puts)
        kinds.append(kind)
        written.append(step)
    written.append(plan.end)
    if isinstance(plan.end, ends.TargetEnd):
        written[-1] = plan.end.inner
        for step in steps_back(plan.end.transformer) or ():
            written.append(replace(step, inputs=(len(written),)))
    steps = [_WRITTEN[type(step)](step) for step in written]
    lines = b",\n".join(orjson.dumps(_plain(step)) for step in steps)
    return orjson.dumps(header)[:-1] + b',"steps":[\n' + lines + b"\n]}\n"


def _plain(value: Any) -> Any:
    """JSON's values: no arrays, no fields without a value, and null for NaN."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items() if item is not None}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if value is pd.NA else value


def _categories(categories: Array) -> list[Any]:
    # A column of booleans is numbers by then; one of objects keeps them.
    is_boolean = categories.dtype.kind == "b"
    values: list[Any] = (categories.astype(int) if is_boolean else categories).tolist()
    return values


def _number(value: Any) -> Any:
    return "nan" if value != value else value


def _of(node: nodes.Node) -> Any:
    return node.inputs[0] if len(node.inputs) == 1 else list(node.inputs)


def _tree(tree: Any, takes_nan: bool = False) -> dict[str, Any]:
    is_leaf = tree.children_left < 0
    value = tree.value[:, 0, :]
    leaves = value[:, 0].tolist() if value.shape[1] == 1 else value.tolist()
    state = tree.__getstate__()["nodes"]
    return {
        "feature": np.where(is_leaf, 0, tree.feature),
        # JSON has no infinity, the threshold by which scikit-learn parts missing values from all others.
        "threshold": np.where(is_leaf, 0.0, np.minimum(tree.threshold, np.finfo(np.float64).max)),
        "left": tree.children_left,
        "right": tree.children_right,
        "value": [
            content if leaf else 0 for content, leaf in zip(leaves, is_leaf.tolist(), strict=True)
        ],
        "nan_left": np.flatnonzero(state["missing_go_to_left"]) if takes_nan else None,
    }


def _trees(end: ends.Trees) -> dict[str, Any]:
    first = getattr(end.estimator, "estimators_", [end.estimator])[0]
    takes_nan = bool(first._support_missing_values(np.zeros((1, 1))))
    trees = [_tree(tree, takes_nan) for tree in end.trees]
    return {"op": "trees", "in": end.input, "classes": end.labels, "trees": trees}


def _boosted(end: ends.Boosted) -> dict[str, Any]:
    estimator, labels = end.estimator, end.labels
    return {
        "op": "boosted",
        "in": end.input,
        "start": end.start[0],
        "rate": float(estimator.learning_rate),
        "classes": labels,
        "link": None if labels is None else _LOSSES[type(estimator._loss).__name__],
        "rounds": [[_tree(tree.tree_) for tree in trees] for trees in estimator.estimators_],
    }


_WRITTEN: dict[type, Callable[[Any], dict[str, Any]]] = {
    nodes.Columns: lambda node: {
        "op": "values" if node.dtype.kind == "O" else "numbers",
        "names": node.names,
        "rounded": [index for index, dtype in enumerate(node.dtypes) if dtype == np.float32]
        or None,
    },
    nodes.Ufunc: lambda node: {"op": node.name, "in": _of(node)},
    nodes.Scale: lambda node: {
        "op": "scale",
        "in": _of(node),
        **{name: getattr(node, name) for name in ("multiply", "add", "subtract", "divide", "clip")},
    },
    nodes.Impute: lambda node: {
        "op": "impute",
        "in": _of(node),
        "with": node.statistics,
        "indicated": node.indicated,
    },
    nodes.OneHot: lambda node: {
        "op": "onehot",
        "in": list(node.inputs),
        "categories": [_categories(categories) for categories in node.categories],
        "dropped": node.dropped if any(index is not None for index in node.dropped) else None,
        "unknown": "zeros" if node.ignores_unknown else "error",
    },
    nodes.Ordinal: lambda node: {
        "op": "ordinal",
        "in": list(node.inputs),
        "categories": [_categories(categories) for categories in node.categories],
        # None among objects is a category as others are; NaN is none.
        "missing": [
            None if index is None else _number(node.missing_value) for index in node.missing
        ],
        "unknown": "error" if node.unknown_value is None else _number(node.unknown_value),
    },
    nodes.Bins: lambda node: {"op": "bins", "in": _of(node), "edges": list(node.edges)},
    nodes.Binarize: lambda node: {"op": "binarize", "in": _of(node), "threshold": node.threshold},
    nodes.Polynomial: lambda node: {"op": "polynomial", "in": _of(node), "terms": node.terms},
    nodes.Project: lambda node: {
        "op": "project",
        "in": _of(node),
        "components": node.components,
        "subtract": None if node.offset is None else np.ravel(node.offset),
        "divide": node.divide,
    },
    nodes.Pick: lambda node: {
        "op": "pick",
        "in": _of(node),
        "columns": node.columns,
        "finite": True if node.demands_finite else None,
    },
    nodes.Concat: lambda node: {"op": "concat", "in": list(node.inputs)},
    ends.Linear: lambda end: {
        "op": "linear",
        "in": end.input,
        "coef": np.atleast_2d(end.coef),
        "intercept": np.broadcast_to(end.intercept, len(np.atleast_2d(end.coef))),
    },
    ends.Logistic: lambda end: {
        "op": "logistic",
        "in": end.input,
        "coef": end.coef,
        "intercept": np.broadcast_to(end.intercept, len(end.coef)),
        "classes": end.labels,
        "link": end.link,
    },
    ends.Trees: _trees,
    ends.Boosted: _boosted,
}
"""Writes each kind of step; fields that are None are left out."""


# The program. Each operation takes its step and the values of the steps that `in` names, (rows, width).


def _open(data: bytes) -> Evaluator:
    try:
        plan = orjson.loads(data)
        if plan["format"] != VERSION:
            raise ValueError(f"it has the format {plan['format']!r}, and {VERSION!r} is known here")
        steps = plan["steps"]
        programs = [_PROGRAMS.get(step["op"]) or _ufunc(step["op"]) for step in steps]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it is not a plan in JSON: {error!r}") from error
    return functools.partial(_score, steps, programs)


def _score(steps: list[dict[str, Any]], programs: list[Any], frame: pd.DataFrame) -> Scored:
    values: list[Any] = [frame]
    for step, program in zip(steps, programs, strict=True):
        chosen = step.get("in", 0)
        indexes = chosen if isinstance(chosen, list) else [chosen]
        with np.errstate(all="ignore"):
            values.append(program(step, *(values[index] for index in indexes)))
    if isinstance(values[-1], Scored):
        return values[-1]
    numbers = values[-1][:, 0] if values[-1].shape[1] == 1 else values[-1]
    return Scored(numbers.tolist())


def _numbers(step: dict[str, Any], frame: pd.DataFrame) -> Array:
    array = np.column_stack([frame[name].to_numpy(np.float64) for name in step["names"]])
    rounded = step.get("rounded", [])
    array[:, rounded] = array[:, rounded].astype(np.float32)
    return array


def _values(step: dict[str, Any], frame: pd.DataFrame) -> Array:
    columns = [frame[name].astype(object) for name in step["names"]]
    return np.column_stack([column.where(column.notna(), None).to_numpy() for column in columns])


def _ufunc(name: str) -> Callable[..., Array]:
    if name not in _UFUNCS:
        raise ValueError(f"it has the operation {name!r}, which is not known here")
    function = getattr(np, name)
    return lambda _step, array: np.asarray(function(array))


def _finite(array: Array, *, but_nan: bool = False) -> Array:
    if np.isinf(array).any() if but_nan else not np.isfinite(array).all():
        raise ValueError("a step is given infinity or NaN")
    return array


def _scale(step: dict[str, Any], array: Array) -> Array:
    array = _finite(array, but_nan=True) * step.get("multiply", 1.0) + step.get("add", 0.0)
    array = (array - step.get("subtract", 0.0)) / step.get("divide", 1.0)
    return np.clip(array, *step["clip"]) if "clip" in step else array


def _impute(step: dict[str, Any], array: Array) -> Array:
    missing = np.array(pd.isna(array))
    filled = np.where(missing, np.array(step["with"], array.dtype), array)
    return np.hstack([filled, missing[:, step["indicated"]]]) if "indicated" in step else filled


def _codes(step: dict[str, Any], arrays: Sequence[Array]) -> list[tuple[list[int], int]]:
    """For each column, the index of each value among the categories, -1 for none; and the number of categories."""
    columns = [column for array in arrays for column in array.T.tolist()]
    codes = []
    for column, categories in zip(columns, step["categories"], strict=True):
        indices = {value: index for index, value in reversed([*enumerate(categories)])}
        column_codes = [indices.get(None if value != value else value, -1) for value in column]
        if -1 in column_codes and step["unknown"] == "error":
            raise ValueError("a value is none of the categories")
        codes.append((column_codes, len(categories)))
    return codes


def _onehot(step: dict[str, Any], *arrays: Array) -> Array:
    blocks = []
    for index, (codes, count) in enumerate(_codes(step, arrays)):
        block = np.eye(count + 1, count)[codes]
        dropped = step.get("dropped", {index: None})[index]
        blocks.append(block if dropped is None else np.delete(block, dropped, axis=1))
    return np.hstack(blocks)


def _ordinal(step: dict[str, Any], *arrays: Array) -> Array:
    columns = []
    inputs = zip(_codes(step, arrays), step["categories"], step["missing"], strict=True)
    for (codes, _count), categories, missing in inputs:
        column = np.array(codes, float)
        if -1 in codes:
            column[column < 0] = float(step["unknown"])
        if missing is not None:
            column[np.array(codes) == categories.index(None)] = float(missing)
        columns.append(column)
    return np.column_stack(columns)


def _bins(step: dict[str, Any], array: Array) -> Array:
    columns = zip(step["edges"], _finite(array).T, strict=True)
    return np.column_stack(
        [np.searchsorted(edges, column, side="right") for edges, column in columns]
    )


def _polynomial(step: dict[str, Any], array: Array) -> Array:
    columns = [*_finite(array).T]
    ones = np.ones(len(array))
    # From the last to the first.
    products = [
        functools.reduce(lambda product, index: columns[index] * product, reversed(term), ones)
        for term in step["terms"]
    ]
    return np.column_stack(products)


def _project(step: dict[str, Any], array: Array) -> Array:
    product = _finite(array) @ np.array(step["components"]).T
    return np.asarray((product - step.get("subtract", 0.0)) / step.get("divide", 1.0))


def _linear(step: dict[str, Any], array: Array) -> Array:
    return np.asarray(_finite(array) @ np.array(step["coef"]).T + step["intercept"])


def _logistic(step: dict[str, Any], array: Array) -> Scored:
    scores = _linear(step, array)
    if scores.shape[1] == 1:
        return _classified(step, scores, (scores[:, 0] > 0).astype(int))
    return _classified(step, scores, scores.argmax(axis=1))


def _classified(step: dict[str, Any], scores: Array, indices: Array) -> Scored:
    """Classes by their indices, and probabilities by the link of the scores."""
    classes, link = tuple(step["classes"]), step["link"]
    if link == "softmax of two":
        scores = np.hstack([-scores, scores])
    if link in ("softmax", "softmax of two"):
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    else:
        odds = 1 / (1 + np.exp(-scores * (2 if link == "expit of twice" else 1)))
        odds = np.hstack([1 - odds, odds]) if odds.shape[1] == 1 else odds
    shares = None if link == "none" else odds / odds.sum(axis=1, keepdims=True)
    return Scored([classes[index] for index in indices.tolist()], shares, classes)


def _leaves(tree: dict[str, Any], array: Array) -> Array:
    """(rows, width) The values of the leaves that rows end in; `array` has floats of 32 bits."""
    rows, positions = np.arange(len(array)), np.zeros(len(array), int)
    left, right = np.array(tree["left"]), np.array(tree["right"])
    feature, threshold = np.array(tree["feature"]), np.array(tree["threshold"])
    nan_left = np.zeros(len(left), bool)
    nan_left[tree.get("nan_left", [])] = True
    while (left[positions] >= 0).any():
        numbers = array[rows, feature[positions]]
        goes_left = np.where(
            np.isnan(numbers), nan_left[positions], numbers <= threshold[positions]
        )
        below = np.where(goes_left, left[positions], right[positions])
        positions = np.where(left[positions] >= 0, below, positions)
    width = max(np.size(value) for value in tree["value"])
    return np.array([np.broadcast_to(value, width) for value in tree["value"]], float)[positions]


def _forest(step: dict[str, Any], array: Array) -> Array | Scored:
    small = _finite(array.astype(np.float32), but_nan="nan_left" in step["trees"][0])
    total = sum(_leaves(tree, small) for tree in step["trees"]) / len(step["trees"])
    if "classes" not in step:
        return np.asarray(total)
    classes = tuple(step["classes"])
    indices = np.argmax(total, axis=1).tolist()
    return Scored([classes[index] for index in indices], np.asarray(total), classes)


def _stages(step: dict[str, Any], array: Array) -> Array | Scored:
    small = _finite(array.astype(np.float32))
    sums = np.repeat([step["start"]], len(array), axis=0)
    for trees in step["rounds"]:
        sums = sums + step["rate"] * np.hstack([_leaves(tree, small) for tree in trees])
    if "classes" not in step:
        return sums
    is_two = sums.shape[1] == 1
    return _classified(step, sums, (sums[:, 0] >= 0).astype(int) if is_two else sums.argmax(axis=1))


_PROGRAMS: dict[str, Callable[..., Any]] = {
    "numbers": _numbers,
    "values": _values,
    "scale": _scale,
    "impute": _impute,
    "onehot": _onehot,
    "ordinal": _ordinal,
    "bins": _bins,
    "binarize": lambda step, array: (_finite(array) > step["threshold"]).astype(float),
    "polynomial": _polynomial,
    "project": _project,
    "pick": lambda step, array: (_finite(array) if "finite" in step else array)[:, step["columns"]],
    "concat": lambda _step, *arrays: np.hstack(arrays),
    "linear": _linear,
    "logistic": _logistic,
    "trees": _forest,
    "boosted": _stages,
}

FORMAT = Format(
    name="json",
    suffix=".json",
    write=_write,
    open=_open,
    takes=_takes,
    libraries=("numpy", "orjson"),
)
