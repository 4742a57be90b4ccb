"""A plan as an ONNX graph of standard operators, in double precision, proven with onnxruntime.

The graph has an input of (rows, 1) for each column that the plan reads, under the column's name, and the outputs
`label` or `value`, and `probabilities`. A missing number is NaN. ONNX's text cannot be missing: it is empty.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from scoreline_artifacts.plan.ends import Boosted, End, Linear, Logistic, TargetEnd, Trees
from scoreline_artifacts.plan.nodes import (
    Binarize,
    Bins,
    Columns,
    Concat,
    Impute,
    OneHot,
    Ordinal,
    Pick,
    Polynomial,
    Project,
    Scale,
    Ufunc,
)
from scoreline_client.errors import MissingDependency
from scoreline_training.export.arithmetic import (
    CODED,
    Writer,
    is_known,
    is_missing,
    is_several,
    missing_kind,
    refused_target,
    rounds_of,
    steps_back,
    thresholds,
)
from scoreline_training.export.formats import (
    About,
    Evaluator,
    Format,
    NotExportable,
    Scored,
    Unexportable,
)

if TYPE_CHECKING:
    import pandas as pd

    from scoreline_artifacts.plan import ScoringPlan
    from scoreline_artifacts.schema import Column

OPERATORS = 21
"""The version of ONNX's operators that is written."""
OPERATORS_OF_TREES = 5
"""That of `ai.onnx.ml`, whose TreeEnsemble has doubles."""
FORM = 10
"""The version of the file format that these belong to; onnxruntime 1.20 is the oldest that has all three."""
ROWS_AT_ONCE = 2000
"""Rows that are scored in one call: the leaves of all trees are held for them."""

_FLOAT, _WHOLE, _TRUTH, _TEXT = np.dtype("f8"), np.dtype("i8"), np.dtype("?"), np.dtype("O")


@dataclass(frozen=True, kw_only=True)
class _Tensor:
    """A value of the graph, (rows, width)."""

    name: str
    dtype: np.dtype[Any] = _FLOAT
    missing: tuple[str, ...] = ()
    """By column, what an empty text stands for, as a schema has it (`None`, `nan`, `NA`); empty: for itself."""


class _Graph(Writer):
    """The operators so far."""

    def __init__(self, columns: Sequence[Column], about: About) -> None:
        self.about = about
        self.columns = {column.name: column for column in columns}
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.inputs: dict[str, npt.DTypeLike] = {}

    def add(
        self, operator: str, *inputs: str | npt.ArrayLike, name: str = "", **options: Any
    ) -> str:
        """Append an operator; arrays among its inputs become constants. Returns its output, `name` if that is given."""
        from onnx import helper

        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        output = name or self.free(f"{operator}_{len(self.nodes)}".lower())
        self.nodes.append(helper.make_node(operator, names, [output], **options))
        return output

    def free(self, name: str) -> str:
        """The name, or one like it that no column has."""
        while name in self.columns:
            name += "_"
        return name

    def constant(self, value: npt.ArrayLike) -> str:
        """Add a constant."""
        from onnx import numpy_helper

        name = self.free(f"constant_{len(self.constants)}")
        array = np.asarray(value)
        if array.dtype.kind == "U":
            array = array.astype(object)
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def cast(self, tensor: _Tensor, dtype: np.dtype[Any]) -> str:
        """A value in another type."""
        from onnx import helper

        if tensor.dtype == dtype:
            return tensor.name
        return self.add("Cast", tensor.name, to=helper.np_dtype_to_tensor_dtype(dtype))

    def refuse(self, way: str, reason: str, where: str) -> None:
        """Raise NotExportable for something that only shows beside the columns."""
        step = Unexportable(
            way=where if where == way else f"{way}, {where}",
            reason=f"it {reason}, and ONNX's text cannot be missing",
            way_out="train without one of the two",
        )
        raise NotExportable(f"{self.about.model}@{self.about.version}", "onnx", [step])

    # Nodes

    def column(self, node: Columns, _: Sequence[_Tensor]) -> _Tensor:
        """Inputs beside each other."""
        tensors = []
        for name in node.names:
            column = self.columns[name]
            dtype = _dtype_of_input(column.dtype) if node.dtype != _TEXT else _TEXT
            self.inputs[name] = dtype
            tensors.append(_Tensor(name=name, dtype=dtype))
        if node.dtype == _TEXT:
            joined = self.add("Concat", *(tensor.name for tensor in tensors), axis=1)
            kinds = tuple(missing_kind(self.columns[name]) for name in node.names)
            for name, kind in zip(node.names, kinds, strict=True):
                if kind and self.columns[name].has_empty_text:
                    self.refuse(f"column {name!r}", "has both empty and missing text", node.way)
            return _Tensor(name=joined, dtype=_TEXT, missing=kinds)
        keeps_type = node.dtype.kind != "f" and len(tensors) == 1
        dtype = tensors[0].dtype if keeps_type else _FLOAT
        return _Tensor(
            name=self.add("Concat", *(self.cast(tensor, dtype) for tensor in tensors), axis=1),
            dtype=dtype,
        )

    def ufunc(self, node: Ufunc, inputs: Sequence[_Tensor]) -> _Tensor:
        """A function on each number."""
        return _Tensor(name=_UFUNCS[node.name](self, inputs[0].name))

    def scale(self, node: Scale, inputs: Sequence[_Tensor]) -> _Tensor:
        """Arithmetic with a number for each column."""
        name = self.cast(inputs[0], _FLOAT)
        for operator, number in (
            ("Mul", node.multiply), ("Add", node.add), ("Sub", node.subtract), ("Div", node.divide),
        ):  # fmt: skip
            if number is not None:
                name = self.add(operator, name, np.asarray(number, _FLOAT))
        if node.clip is not None:
            low, high = (np.float64(limit) for limit in node.clip)
            name = self.add("Where", self.add("Less", name, low), low, name)
            name = self.add("Where", self.add("Greater", name, high), high, name)
        return _Tensor(name=name)

    def impute(self, node: Impute, inputs: Sequence[_Tensor]) -> _Tensor:
        """A value of training for each missing one."""
        tensor = inputs[0]
        if tensor.dtype == _TEXT:
            # scikit-learn's imputer leaves None where it is.
            puts = [
                value if kind == "nan" else ""
                for value, kind in zip(node.statistics, tensor.missing, strict=True)
            ]
            is_missing = self.add("Equal", tensor.name, [[""]])
            missing = tuple("" if kind == "nan" else kind for kind in tensor.missing)
            name = self.add("Where", is_missing, puts, tensor.name)
            return _Tensor(name=name, dtype=_TEXT, missing=missing)
        name = self.cast(tensor, _FLOAT)
        is_missing = self.add("IsNaN", name)
        filled = self.add("Where", is_missing, node.statistics.astype(_FLOAT), name)
        if node.indicated is not None:
            indicated = self.add("Gather", is_missing, node.indicated.astype(_WHOLE), axis=1)
            flags = self.cast(_Tensor(name=indicated, dtype=_TRUTH), _FLOAT)
            filled = self.add("Concat", filled, flags, axis=1)
        return _Tensor(name=filled)

    def matches(self, node: OneHot | Ordinal, inputs: Sequence[_Tensor]) -> list[str]:
        """For each column (rows, categories) of truth: which category a value is."""
        columns = list(inputs)
        if len(columns) < len(node.categories):
            columns = [
                _Tensor(
                    name=self.add("Gather", inputs[0].name, [index], axis=1),
                    dtype=inputs[0].dtype,
                    missing=inputs[0].missing[index : index + 1],
                )
                for index in range(len(node.categories))
            ]
        outputs = []
        for column, categories in zip(columns, node.categories, strict=True):
            if column.dtype == _TEXT:
                missing = {
                    "None" if value is None else "nan" for value in categories if is_missing(value)
                }
                if missing - {*column.missing}:
                    self.refuse(
                        node.way, "knows another missing text than its column has", node.way
                    )
                values = np.array(
                    [["" if is_missing(value) else value for value in categories]], object
                )
                outputs.append(self.add("Equal", column.name, values))
                continue
            name = self.add("Equal", column.name, categories[None].astype(column.dtype))
            if categories.dtype.kind == "f" and np.isnan(categories[-1]):
                last = np.zeros((1, len(categories)), bool)
                last[0, -1] = True
                is_nan = self.add("And", self.add("IsNaN", column.name), last)
                name = self.add("Or", name, is_nan)
            outputs.append(name)
        return outputs

    def one_hot(self, node: OneHot, inputs: Sequence[_Tensor]) -> _Tensor:
        """A column for each category."""
        columns = []
        for name, categories, dropped in zip(
            self.matches(node, inputs), node.categories, node.dropped, strict=True
        ):
            column = name
            if dropped is not None:
                kept = np.delete(np.arange(len(categories)), dropped)
                column = self.add("Gather", name, kept.astype(_WHOLE), axis=1)
            columns.append(self.cast(_Tensor(name=column, dtype=_TRUTH), _FLOAT))
        return _Tensor(name=self.add("Concat", *columns, axis=1))

    def ordinal(self, node: Ordinal, inputs: Sequence[_Tensor]) -> _Tensor:
        """The index of each value among the categories."""
        columns = []
        for name, categories, missing in zip(
            self.matches(node, inputs), node.categories, node.missing, strict=True
        ):
            numbers = np.arange(len(categories), dtype=_FLOAT)
            if missing is not None:
                numbers[missing] = node.missing_value
            codes = self.add("ReduceSum", self.add("Where", name, numbers, 0.0), [1], keepdims=1)
            if node.unknown_value is not None:
                hits = self.cast(_Tensor(name=name, dtype=_TRUTH), _WHOLE)
                is_known = self.add("Greater", self.add("ReduceSum", hits, [1], keepdims=1), 0)
                codes = self.add("Where", is_known, codes, float(node.unknown_value))
            columns.append(codes)
        return _Tensor(name=self.add("Concat", *columns, axis=1))

    def bins(self, node: Bins, inputs: Sequence[_Tensor]) -> _Tensor:
        """The number of edges that a number is not below."""
        numbers, counts = self.cast(inputs[0], _FLOAT), []
        for index, edges in enumerate(node.edges):
            column = self.add("Gather", numbers, [index], axis=1)
            reached = self.add("GreaterOrEqual", column, edges[None].astype(_FLOAT))
            counted = self.cast(_Tensor(name=reached, dtype=_TRUTH), _FLOAT)
            counts.append(self.add("ReduceSum", counted, [1], keepdims=1))
        return _Tensor(name=self.add("Concat", *counts, axis=1))

    def binarize(self, node: Binarize, inputs: Sequence[_Tensor]) -> _Tensor:
        """1 above a threshold."""
        is_above = self.add("Greater", self.cast(inputs[0], _FLOAT), np.float64(node.threshold))
        return _Tensor(name=self.cast(_Tensor(name=is_above, dtype=_TRUTH), _FLOAT))

    def polynomial(self, node: Polynomial, inputs: Sequence[_Tensor]) -> _Tensor:
        """Products of columns: factors are gathered, and 1 stands where a term has fewer."""
        numbers = self.cast(inputs[0], _FLOAT)
        ones = self.add("Gather", self.add("Mul", numbers, 0.0), [0], axis=1)
        padded = self.add("Concat", numbers, self.add("Add", ones, 1.0), axis=1)
        degree = max(1, *map(len, node.terms))
        # The index -1 is the column of ones, behind all others.
        factors = np.full((degree, len(node.terms)), -1)
        for column, term in enumerate(node.terms):
            factors[degree - len(term) :, column] = term
        product = self.add("Gather", padded, factors[-1], axis=1)
        for row in factors[-2::-1]:
            product = self.add("Mul", self.add("Gather", padded, row, axis=1), product)
        return _Tensor(name=product)

    def project(self, node: Project, inputs: Sequence[_Tensor]) -> _Tensor:
        """A product with a matrix."""
        name = self.add("MatMul", self.cast(inputs[0], _FLOAT), node.components.T.astype(_FLOAT))
        for operator, number in (("Sub", node.offset), ("Div", node.divide)):
            if number is not None:
                name = self.add(operator, name, np.asarray(number, _FLOAT))
        return _Tensor(name=name)

    def pick(self, node: Pick, inputs: Sequence[_Tensor]) -> _Tensor:
        """Some columns."""
        tensor = inputs[0]
        return _Tensor(
            name=self.add("Gather", tensor.name, node.columns.astype(_WHOLE), axis=1),
            dtype=tensor.dtype,
            missing=tuple(tensor.missing[index] for index in node.columns if tensor.missing),
        )

    def concat(self, _: Concat, inputs: Sequence[_Tensor]) -> _Tensor:
        """Arrays beside each other."""
        dtype = _TEXT if inputs[0].dtype == _TEXT else _FLOAT
        name = self.add("Concat", *(self.cast(tensor, dtype) for tensor in inputs), axis=1)
        missing = sum((tensor.missing for tensor in inputs), ())
        return _Tensor(name=name, dtype=dtype, missing=missing)

    # Ends

    # An end gives the outputs: labels or numbers, and probabilities.

    def target(self, end: TargetEnd, features: str) -> tuple[str, None]:
        """Numbers that are transformed back."""
        name, _ = self.step(end.inner, features)
        several = is_several(end)
        value = _Tensor(name=name if several else self.add("Unsqueeze", name, [1]))
        for node in steps_back(end.transformer) or ():
            value = self.step(node, [value])
        return value.name if several else self.add("Reshape", value.name, [-1]), None

    def linear(self, end: Linear, features: str) -> tuple[str, None]:
        """A product and a sum."""
        width = end.coef.shape[-1]
        products = self.add("MatMul", features, end.coef.reshape(-1, width).T.astype(_FLOAT))
        sums = self.add("Add", products, np.asarray(end.intercept, _FLOAT).reshape(1, -1))
        return sums if is_several(end) else self.add("Reshape", sums, [-1]), None

    def logistic(self, end: Logistic, features: str) -> tuple[str, str | None]:
        """The class of the largest score."""
        products = self.add("MatMul", features, end.coef.T.astype(_FLOAT))
        scores = self.add("Add", products, np.asarray(end.intercept, _FLOAT).reshape(1, -1))
        is_two = len(end.coef) == 1
        indices = self.above(scores, "Greater") if is_two else self.largest(scores)
        label = self.add("Gather", _labels_of(end), indices)
        match end.link:
            case "none":
                return label, None
            case "expit" if is_two:
                return label, self.two(self.expit(scores))
            case "expit":
                odds = self.expit(scores)
                return label, self.add("Div", odds, self.add("ReduceSum", odds, [1], keepdims=1))
            case "softmax of two":
                scores = self.add("Concat", self.add("Neg", scores), scores, axis=1)
        return label, self.softmax(scores)

    def forest(self, end: Trees, features: str) -> tuple[str, str | None]:
        """The mean of the values of leaves, added up in scikit-learn's order."""
        leaves, table = self.leaves(rounds_of(end), features, [])
        sums = self.added(self.add("Gather", table, leaves))
        mean = self.add("Div", sums, float(len(end.trees)))
        if end.labels is None:
            return self.add("Reshape", mean, [-1]), None
        return self.add("Gather", _labels_of(end), self.largest(mean)), mean

    def boosted(self, end: Boosted, features: str) -> tuple[str, str | None]:
        """A constant and the values of leaves, added up in scikit-learn's order."""
        outputs = end.start.shape[1]
        leaves, table = self.leaves(rounds_of(end), features, end.start[0].tolist())
        flat = self.add("Gather", self.add("Reshape", table, [-1]), leaves)
        sums = self.added(self.add("Reshape", flat, [0, -1, outputs]))
        if end.labels is None:
            return self.add("Reshape", sums, [-1]), None
        is_two = outputs == 1
        indices = self.above(sums, "GreaterOrEqual") if is_two else self.largest(sums)
        label = self.add("Gather", _labels_of(end), indices)
        if not is_two:
            return label, self.softmax(sums)
        if type(end.estimator._loss).__name__ == "ExponentialLoss":
            sums = self.add("Mul", sums, 2.0)
        return label, self.two(self.expit(sums))

    def leaves(
        self, rounds: Sequence[tuple[Any, Any]], features: str, constants: Sequence[float]
    ) -> tuple[str, str]:
        """(rows, constants + trees) Indices into a table, and that table: the values of the leaf that a row ends in."""
        count = len(rounds)
        table = [np.full((1, 1), number) for number in constants]
        roots: list[int] = []
        nodes: dict[str, list[Any]] = {name: [] for name in _TREE_PARTS}
        targets: list[int] = []
        start, offset = 0, len(constants)
        for index, (tree, values) in enumerate(rounds):
            is_leaf = tree.children_left == -1
            # A tree of one leaf has a node before it, both of whose ways lead there.
            inner = np.flatnonzero(~is_leaf) if len(is_leaf) > 1 else np.zeros(1, int)
            leaf = np.flatnonzero(is_leaf)
            numbering = np.zeros(len(is_leaf), int)
            numbering[inner] = start + np.arange(len(inner))
            numbering[leaf] = len(targets) + np.arange(len(leaf))
            left, right = tree.children_left[inner], tree.children_right[inner]
            if len(is_leaf) == 1:
                left = right = inner
            roots.append(start)
            nodes["nodes_featureids"] += np.maximum(tree.feature[inner], 0).tolist()
            nodes["nodes_splits"] += thresholds(tree)[inner].tolist()
            nodes["nodes_missing_value_tracks_true"] += tree.missing_go_to_left[inner].tolist()
            nodes["nodes_truenodeids"] += numbering[left].tolist()
            nodes["nodes_trueleafs"] += is_leaf[left].astype(int).tolist()
            nodes["nodes_falsenodeids"] += numbering[right].tolist()
            nodes["nodes_falseleafs"] += is_leaf[right].astype(int).tolist()
            targets += [index] * len(leaf)
            table.append(values[leaf])
            start += len(inner)
        from onnx import numpy_helper

        attributes: dict[str, Any] = {
            **nodes,
            "nodes_modes": numpy_helper.from_array(np.zeros(start, np.uint8)),
            "nodes_splits": numpy_helper.from_array(np.array(nodes["nodes_splits"], _FLOAT)),
            "leaf_weights": numpy_helper.from_array(
                np.arange(offset, offset + len(targets), dtype=_FLOAT)
            ),
            "leaf_targetids": targets,
            "tree_roots": roots,
        }
        reached = self.add(
            "TreeEnsemble", features, domain="ai.onnx.ml", aggregate_function=1, post_transform=0, n_targets=count, **attributes
        )  # fmt: skip
        rows = self.cast(_Tensor(name=reached), _WHOLE)
        if constants:
            first = self.add("Gather", self.add("Mul", rows, 0), [0], axis=1)
            rows = self.add("Concat", self.add("Add", first, np.arange(offset)), rows, axis=1)
        return rows, self.constant(np.concatenate(table))

    def added(self, terms: str) -> str:
        """(rows, outputs) The sums of (rows, rounds, outputs), one after the other: other orders round otherwise."""
        return self.add("Gather", self.add("CumSum", terms, np.int64(1)), np.int64(-1), axis=1)

    def above(self, scores: str, operator: str) -> str:
        """(rows,) 1 where the only score is above 0."""
        is_above = self.add("Reshape", self.add(operator, scores, 0.0), [-1])
        return self.cast(_Tensor(name=is_above, dtype=_TRUTH), _WHOLE)

    def largest(self, scores: str) -> str:
        """(rows,) The index of the largest score, the first of equals."""
        return self.add("ArgMax", scores, axis=1, keepdims=0)

    def expit(self, scores: str) -> str:
        """The logistic function; onnxruntime's own has an error that is ten times as large."""
        return self.add("Div", 1.0, self.add("Add", 1.0, self.add("Exp", self.add("Neg", scores))))

    def two(self, second: str) -> str:
        """(rows, 2) The probabilities of two classes by that of the second."""
        return self.add("Concat", self.add("Sub", 1.0, second), second, axis=1)

    def softmax(self, scores: str) -> str:
        """Exponentials that add up to 1."""
        lead = self.add("ReduceMax", scores, [1], keepdims=1)
        powers = self.add("Exp", self.add("Sub", scores, lead))
        return self.add("Div", powers, self.add("ReduceSum", powers, [1], keepdims=1))


def _arcsinh(graph: _Graph, x: str) -> str:
    size = graph.add("Abs", x)
    square = graph.add("Mul", size, size)
    root = graph.add("Sqrt", graph.add("Add", square, 1.0))
    quotient = graph.add("Div", square, graph.add("Add", root, 1.0))
    return graph.add("Mul", graph.add("Sign", x), _log1p(graph, graph.add("Add", size, quotient)))


def _cbrt(graph: _Graph, x: str) -> str:
    root = graph.add("Pow", graph.add("Abs", x), 1 / 3)
    return graph.add("Mul", graph.add("Sign", x), root)


def _expm1(graph: _Graph, x: str) -> str:
    # Near 0 the difference loses digits; the logarithm of what was rounded gives them back.
    power = graph.add("Exp", x)
    less = graph.add("Sub", power, 1.0)
    mended = graph.add("Div", graph.add("Mul", less, x), graph.add("Log", power))
    is_far = graph.add("Greater", graph.add("Abs", x), 1.0)
    near = graph.add("Where", graph.add("Equal", power, 1.0), x, mended)
    return graph.add("Where", is_far, less, near)


def _log1p(graph: _Graph, x: str) -> str:
    # The sum is rounded near 0; what it was rounded by is put right by a quotient.
    total = graph.add("Add", x, 1.0)
    less = graph.add("Sub", total, 1.0)
    mended = graph.add("Mul", graph.add("Log", total), graph.add("Div", x, less))
    near = graph.add("Where", graph.add("Equal", less, 0.0), x, mended)
    return graph.add("Where", graph.add("Greater", x, 1.0), graph.add("Log", total), near)


def _hyperbolic(operator: str) -> Callable[[_Graph, str], str]:
    def written(graph: _Graph, x: str) -> str:
        powers = graph.add("Exp", x), graph.add("Exp", graph.add("Neg", x))
        return graph.add("Div", graph.add(operator, *powers), 2.0)

    return written


def _named(operator: str) -> Callable[[_Graph, str], str]:
    return lambda graph, x: graph.add(operator, x)


_UFUNCS: dict[str, Callable[[_Graph, str], str]] = {
    **{
        name: _named(operator)
        for name, operator in (
            ("abs", "Abs"), ("absolute", "Abs"), ("ceil", "Ceil"), ("cos", "Cos"), ("exp", "Exp"), ("fabs", "Abs"),
            ("floor", "Floor"), ("log", "Log"), ("negative", "Neg"), ("reciprocal", "Reciprocal"), ("rint", "Round"),
            ("sign", "Sign"), ("sin", "Sin"), ("sqrt", "Sqrt"), ("tanh", "Tanh"),
        )
    },
    "arcsinh": _arcsinh,
    "cbrt": _cbrt,
    "cosh": _hyperbolic("Add"),
    "exp2": lambda graph, x: graph.add("Pow", 2.0, x),
    "expm1": _expm1,
    "log10": lambda graph, x: graph.add("Div", graph.add("Log", x), math.log(10)),
    "log1p": _log1p,
    "log2": lambda graph, x: graph.add("Div", graph.add("Log", x), math.log(2)),
    "sinh": _hyperbolic("Sub"),
    "square": lambda graph, x: graph.add("Mul", x, x),
    "tan": lambda graph, x: graph.add("Div", graph.add("Sin", x), graph.add("Cos", x)),
    "trunc": lambda graph, x: graph.add("Mul", graph.add("Sign", x), graph.add("Floor", graph.add("Abs", x))),
}  # fmt: skip
"""Writes functions of numpy; runtimes have the others with 32 bits only."""

_TREE_PARTS = (
    "nodes_featureids", "nodes_splits", "nodes_missing_value_tracks_true", "nodes_truenodeids", "nodes_trueleafs",
    "nodes_falsenodeids", "nodes_falseleafs",
)  # fmt: skip


def takes(step: Any) -> str | None:
    """None if a node or an end can be written, else why not."""
    if isinstance(step, TargetEnd):
        return refused_target(step, takes)
    if isinstance(step, Ufunc) and step.name not in _UFUNCS:
        return f"it calls numpy.{step.name}, which programs that run ONNX have with 32 bits only"
    if isinstance(step, Columns) and "" in step.names:
        return "it reads a column whose name is empty, and an input of ONNX has one"
    if isinstance(step, OneHot | Ordinal):
        for categories in step.categories:
            if categories.dtype.kind not in CODED:
                return f"it has categories of the type {categories.dtype}"
            present = [value for value in categories.tolist() if not is_missing(value)]
            if categories.dtype == object and not all(isinstance(value, str) for value in present):
                return "it has objects that are no text as categories"
            if categories.dtype == object and len(categories) - len(present) + ("" in present) > 1:
                return "it tells empty text from missing text, or None from NaN, which ONNX cannot"
    if isinstance(step, Logistic | Trees | Boosted) and step.labels is not None:
        labels = np.asarray(step.labels)
        if labels.dtype.kind not in "iufbU" and not all(isinstance(label, str) for label in labels):
            return "it has labels that are neither text, numbers nor booleans"
    return None if is_known(step) else "it has no form in ONNX"


def write(plan: ScoringPlan, columns: Sequence[Column], about: About) -> bytes:
    """The ONNX model of a plan.

    Raises:
        NotExportable: a text column holds both empty and missing values.
        MissingDependency: `onnx` is not installed.
    """
    try:
        import onnx
        from onnx import helper
    except ModuleNotFoundError as error:
        raise MissingDependency("an ONNX file", "onnx", "onnx") from error
    graph = _Graph(columns, about)
    values = [_Tensor(name="")]
    for node in plan.nodes:
        values.append(graph.step(node, [values[index] for index in node.inputs]))
    features = graph.cast(values[plan.end.input], _FLOAT)
    answer, probabilities = graph.step(plan.end, features)
    labels = _labels_of(plan.end)
    outputs = {graph.add("Identity", answer, name=graph.free("prediction")): labels.dtype}
    if probabilities is not None:
        name = graph.add("Identity", probabilities, name=graph.free("probabilities"))
        outputs[name] = _FLOAT
    shapes: list[list[str | int | None]] = [
        [None, None] if is_several(plan.end) else [None],
        [None, len(labels)],
    ]
    onnx_graph = helper.make_graph(
        graph.nodes,
        about.model,
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), [None, 1]
            )
            for name, dtype in graph.inputs.items()
        ],
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), shape)
            for (name, dtype), shape in zip(outputs.items(), shapes, strict=False)
        ],
        graph.constants,
    )
    domains = {node.domain for node in graph.nodes}
    versions = {"": OPERATORS, "ai.onnx.ml": OPERATORS_OF_TREES}
    model = helper.make_model(
        onnx_graph,
        producer_name="scoreline",
        ir_version=FORM,
        opset_imports=[helper.make_opsetid(name, versions[name]) for name in sorted(domains)],
    )
    about_file = {
        "model": about.model,
        "version": str(about.version),
        "manifest_sha256": about.manifest_sha256,
        "classes": json.dumps(labels.tolist()),
    }
    helper.set_model_props(model, about_file)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def open_file(written: bytes) -> Evaluator:
    """onnxruntime, with one thread, on what was written.

    Raises:
        ValueError: it is no ONNX model, or not one that was written here.
        MissingDependency: `onnxruntime` is not installed.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise MissingDependency("to score an ONNX file", "onnxruntime", "onnx") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(written, options, ["CPUExecutionProvider"])
        classes = tuple(json.loads(session.get_modelmeta().custom_metadata_map["classes"]))
    except Exception as error:
        raise ValueError(f"no ONNX model of ours: {error}") from error
    kinds = {
        "tensor(double)": _FLOAT, "tensor(float)": np.dtype("f4"), "tensor(int64)": _WHOLE,
        "tensor(uint64)": np.dtype("u8"), "tensor(bool)": _TRUTH, "tensor(string)": _TEXT,
    }  # fmt: skip
    takers = {tensor.name: kinds[tensor.type] for tensor in session.get_inputs()}

    def score(frame: pd.DataFrame) -> Scored:
        values: list[Any] = []
        shares = []
        for start in range(0, len(frame), ROWS_AT_ONCE):
            rows = frame.iloc[start : start + ROWS_AT_ONCE]
            feeds = {}
            for name, dtype in takers.items():
                column = rows[name]
                if dtype == _TEXT:
                    listed = column.astype(object).where(column.notna(), "")
                    feeds[name] = listed.to_numpy(object)[:, None]
                else:
                    feeds[name] = column.to_numpy(dtype)[:, None]
            outputs = session.run(None, feeds)
            values += outputs[0].tolist()
            shares += outputs[1:]
        return Scored(
            values=values, probabilities=np.concatenate(shares) if shares else None, classes=classes
        )

    return score


def _dtype_of_input(dtype: str) -> np.dtype[Any]:
    """The type of a column of numbers or booleans in ONNX: integers have 64 bits."""
    kind = np.dtype(dtype)
    if kind.kind == "i" or (kind.kind == "u" and kind.itemsize < 8):
        return _WHOLE
    return np.dtype("f4") if kind.itemsize < 8 and kind.kind == "f" else kind


def _labels_of(end: End) -> npt.NDArray[Any]:
    """(classes,) The labels in a type that ONNX has; for an end that gives numbers, (0,) of floats."""
    if end.classes is None:
        return np.zeros(0)
    labels = np.asarray(end.classes)
    if labels.dtype.kind in "UO":
        return labels.astype(object)
    return labels.astype({"i": _WHOLE, "u": _WHOLE, "f": _FLOAT, "b": _TRUTH}[labels.dtype.kind])


FORMAT = Format(
    name="onnx",
    suffix=".onnx",
    write=write,
    open=open_file,
    takes=takes,
    libraries=("onnx", "onnxruntime"),
)
