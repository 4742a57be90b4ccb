"""Reads a fitted pipeline into a plan. What is not known to the letter is called as before, with what scikit-learn would hand it.

Known is a step by the full name of its class, never by what it inherits from, and only if nothing on it or its class is
patched. Containers dissolve: their steps become nodes.
"""

from __future__ import annotations

import copy
import inspect
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scoreline_artifacts.plan.ends import (
    Boosted,
    BoostedByBins,
    BoostedByLightGbm,
    Calibrated,
    End,
    Linear,
    Logistic,
    OpaqueEnd,
    TargetEnd,
    Threshold,
    Trees,
)
from scoreline_artifacts.plan.nodes import (
    MOST_WIDE,
    Array,
    Binarize,
    Bins,
    Columns,
    Concat,
    Given,
    Handed,
    Impute,
    Node,
    OneHot,
    Opaque,
    Ordinal,
    Pick,
    Polynomial,
    Project,
    Scale,
    Selected,
    Ufunc,
)
from scoreline_artifacts.plan.plan import ScoringPlan
from scoreline_artifacts.schema import Column

UFUNCS = frozenset(
    [
        "arctan",
        "arcsinh",
        "cbrt",
        "cos",
        "cosh",
        "exp",
        "exp2",
        "expm1",
        "log",
        "log10",
        "log1p",
        "log2",
        "sin",
        "sinh",
        "sqrt",
        "tan",
        "tanh",
    ]
)
"""Functions that make floats of whole numbers."""
UFUNCS_OF_FLOATS = UFUNCS | {
    "abs", "absolute", "ceil", "fabs", "floor", "negative", "reciprocal", "rint", "sign", "square", "trunc",
}  # fmt: skip
_METHODS = (
    "predict", "predict_proba", "decision_function", "transform", "inverse_transform", "_decision_function",
    "_predict_proba_lr", "_raw_predict", "_raw_predict_init", "_transform", "_validate_input", "_validate_X_predict",
    "_get_col_subset", "_hstack", "_iter", "get_support",
)  # fmt: skip
"""Methods that decide what a step does."""
_FLOAT, _OBJECT = np.dtype(np.float64), np.dtype(object)


class _Unknown(Exception):
    """Raised when a step is to be called, since it, or what it is given, is not known to the letter."""


class _Boxed(Exception):
    """Raised when a step is to be called with booleans beside numbers: so is the one then that puts them there."""


class _NoPlan(Exception):
    """Raised when a pipeline has no plan."""


@dataclass(frozen=True, kw_only=True)
class _Value:
    """What scikit-learn has between two steps, and the node that holds it."""

    form: str
    """`frame`, `series`, `array`, `vector` (an array of one dimension), `sparse`, or `unknown`, of a called step."""
    node: int = -1
    """-1: columns of the frame that is scored, of which no node has been made yet."""
    names: tuple[str, ...] = ()
    """The columns of a frame."""
    width: int | None = None
    """None: a step that is called decides."""
    dtype: np.dtype[Any] = _FLOAT
    """Of an array."""
    is_boxed: bool = False
    """Whether scikit-learn has an array of objects, since booleans stand beside numbers; the node has them as floats."""


def read_plan(pipeline: Any, columns: Sequence[Column]) -> ScoringPlan | str:
    """The plan of a fitted pipeline for frames with these columns, or why it has none."""
    import sklearn

    config = sklearn.get_config()
    if config["transform_output"] != "default" or config["enable_metadata_routing"]:
        return "scikit-learn is configured otherwise than by default"
    reader = _Reader(columns)
    names = tuple(column.name for column in columns)
    whole = _Value(form="frame", names=names, width=len(names))
    try:
        try:
            end = reader.end(pipeline, whole, ())
        except _Boxed:
            reader = _Reader(columns, takes_boxed=False)
            end = reader.end(pipeline, whole, ())
    except _NoPlan as reason:
        return str(reason)
    plan = ScoringPlan(tuple(reader.nodes), end, names, tuple(reader.reasons))
    called = (Opaque, Selected, Handed, Given)
    if isinstance(end, OpaqueEnd) and all(isinstance(node, called) for node in plan.nodes):
        return f"every step is called: {'; '.join(plan.opaque)}"
    return plan


def library_name(estimator: object) -> str:
    """The full name of an object's class; empty where it is not a library's own, or patched."""
    kind = type(estimator)
    if getattr(sys.modules.get(kind.__module__), kind.__qualname__, None) is not kind:
        return ""
    library = kind.__module__.partition(".")[0]
    patched = set(getattr(estimator, "__dict__", {})).intersection(_METHODS)
    for name in _METHODS:
        method = getattr(kind, name, None)
        # What a library inherits of scikit-learn is as it is there.
        if str(getattr(method, "__module__", library)).partition(".")[0] not in (
            library,
            "sklearn",
        ):
            return ""
    return "" if patched else f"{kind.__module__}.{kind.__qualname__}"


def label_of(step: Any) -> str:
    """A step for people: its class, and the function that it calls, with file and line."""
    function = getattr(step, "func", None)
    if not callable(function):
        return type(step).__name__
    while hasattr(function, "func"):  # a partial
        function = function.func
    module = getattr(function, "__module__", "") or ""
    name = getattr(function, "__qualname__", getattr(function, "__name__", repr(function)))
    if isinstance(function, np.ufunc):
        return f"{type(step).__name__}(numpy.{function.__name__})"
    code = getattr(inspect.unwrap(function), "__code__", None)
    place = f", {Path(code.co_filename).name}:{code.co_firstlineno}" if code else ""
    return f"{type(step).__name__}({module}.{name}){place}"


class _Reader:
    """The nodes so far, and how each kind of step adds to them."""

    def __init__(self, columns: Sequence[Column], *, takes_boxed: bool = True) -> None:
        self._takes_boxed = takes_boxed
        self.nodes: list[Node] = []
        self.reasons: list[str] = []
        self._positions = {column.name: place for place, column in enumerate(columns)}
        self._dtypes = {column.name: _dtype_of(column) for column in columns}

    def add(self, node: Node) -> int:
        """Append a node; returns its index."""
        self.nodes.append(node)
        return len(self.nodes)

    # What a step is given

    def handed(self, value: _Value, way: str) -> int:
        """The node that gives a value as scikit-learn hands it on."""
        if value.node == -1:
            whole = value.form == "frame" and value.names == tuple(self._positions)
            names = value.names[0] if value.form in ("series", "vector") else value.names
            as_values = value.form in ("array", "vector")
            chosen = None if whole else names
            return self.add(Selected(inputs=(0,), way=way, names=chosen, as_values=as_values))
        if value.is_boxed:
            raise _Boxed
        if value.form != "unknown":
            return self.add(
                Handed(inputs=(value.node,), way=way, form=value.form, names=value.names)
            )
        return value.node

    def natural(self, value: _Value, way: str, *, may_be_flat: bool = False) -> _Value:
        """The value as an array of two dimensions, of the dtype that numpy makes of it."""
        if value.form == "unknown":
            given = Given(inputs=(value.node,), way=way, is_joined=True, may_be_flat=may_be_flat)
            return _Value(form="array", node=self.add(given))
        if value.node != -1:
            return value
        kinds = [self._dtypes[name] for name in value.names]
        plain = [kind for kind in kinds if isinstance(kind, np.dtype)]
        if len(plain) == len(kinds) and all(kind.kind in "iufb" for kind in plain):
            if {kind.kind == "b" for kind in plain} == {True, False}:
                if not self._takes_boxed:
                    raise _Unknown("numbers beside booleans are objects")
                node = self.columns(value.names, _FLOAT, way)
                return replace(value, form="array", node=node, dtype=_OBJECT, is_boxed=True)
            dtype = np.result_type(*plain)
        elif all(_is_of_objects(kind) for kind in kinds):
            dtype = np.dtype(object)
        else:
            raise _Unknown("columns of different types are one array")
        node = self.columns(value.names, dtype, way)
        return replace(value, form="array", node=node, dtype=dtype)

    def columns(self, names: tuple[str, ...], dtype: np.dtype[Any], way: str) -> int:
        """The node of some columns of the frame."""
        return self.add(
            Columns(
                inputs=(0,),
                way=way,
                names=names,
                positions=tuple(self._positions[name] for name in names),
                dtypes=tuple(self._dtypes[name] for name in names),
                dtype=dtype,
            )
        )

    def numbers(self, value: _Value, step: Any, way: str, *, at_end: bool = False) -> int:
        """The node of a value as the float64 array that scikit-learn makes of it for a step."""
        if value.form == "unknown":
            given = Given(
                inputs=(value.node,),
                way=way,
                names=tuple(step.feature_names_in_) if hasattr(step, "feature_names_in_") else None,
                width=getattr(step, "n_features_in_", None),
                takes_sparse=at_end,
            )
            return self.add(given)
        _check_names(step, value)
        if value.form in ("series", "vector") or (value.form == "sparse" and not at_end):
            raise _Unknown(f"it is given a {value.form}")
        if value.node == -1:
            kinds = [self._dtypes[name] for name in value.names]
            if not all(isinstance(kind, np.dtype) and kind.kind in "iufb" for kind in kinds):
                raise _Unknown("columns are not numpy's numbers")
            # Transformers leave floats of 32 bits what they are, unless a wider number is among them.
            dtype = np.result_type(*kinds)
            if dtype.kind == "f" and dtype != _FLOAT and not at_end:
                raise _Unknown("columns have 32 bits")
            return self.columns(value.names, _FLOAT, way)
        is_plain = value.dtype == _FLOAT or (at_end and value.dtype.kind in "iub")
        if not is_plain and not value.is_boxed:
            raise _Unknown(f"it is given an array of {value.dtype}")
        if value.width is None:
            width = getattr(step, "n_features_in_", None)
            return self.add(Given(inputs=(value.node,), way=way, width=width))
        return value.node

    def stays_float(self, value: _Value) -> None:
        """Demand that the value is, or becomes, float64 for a step that leaves whole numbers what they are."""
        if value.node == -1 and any(self._dtypes[name] != _FLOAT for name in value.names):
            raise _Unknown("columns are no floats, and stay so")

    # Transformers

    def step(self, step: Any, value: _Value, path: tuple[str, ...]) -> _Value:
        """What a transformer makes of a value."""
        if step is None or (isinstance(step, str) and step == "passthrough"):
            return value
        mark = len(self.nodes)
        known = _STEPS.get(library_name(step))
        way = " → ".join((*path, label_of(step)))
        config = getattr(step, "_sklearn_output_config", {}).get("transform", "default")
        # A step that does not copy writes into what others are given, too.
        if known is not None and config == "default" and getattr(step, "copy", True) is not False:
            try:
                return known(self, step, value, path if known in _CONTAINERS else (way,))
            except _Unknown as reason:
                self.reasons.append(f"{way}: {reason}")
                del self.nodes[mark:]
        node = self.handed(value, way)
        return _Value(
            form="unknown", node=self.add(Opaque(inputs=(node,), way=way, transformer=step))
        )

    def pipeline(self, step: Any, value: _Value, path: tuple[str, ...]) -> _Value:
        """Steps after one another."""
        for name, each in step.steps:
            value = self.step(each, value, (*path, name))
        return value

    def column_transformer(self, step: Any, value: _Value, path: tuple[str, ...]) -> _Value:
        """Steps beside each other, each of some columns."""
        _check_names(step, value)
        parts = []
        for name, each, chosen in step.transformers_:
            indices = step._transformer_to_input_indices[name]
            if (isinstance(each, str) and each == "drop") or len(indices) == 0:
                continue
            if value.form == "frame":
                names = tuple(value.names[index] for index in indices)
                part = replace(
                    value, form="series" if np.isscalar(chosen) else "frame", names=names,
                    width=len(names),
                )  # fmt: skip
                here = (*path, name, str([*names]))
            else:
                part, here = replace(value, width=len(indices)), (*path, name, str([*indices]))
            if value.node != -1:
                if np.isscalar(chosen) or value.form not in ("frame", "array"):
                    raise _Unknown(f"it is given a {value.form}")
                pick = Pick(inputs=(value.node,), way=" → ".join(here), columns=np.array(indices))
                part = replace(part, node=self.add(pick))
            elif value.form != "frame":
                raise _Unknown(f"it is given a {value.form}")
            made = self.step(each, part, here)
            weight = (step.transformer_weights or {}).get(name)
            parts.append(self.weighted(made, weight, " → ".join(here)))
        joined = self.joined(parts, " → ".join((*path, label_of(step))))
        if step.sparse_output_ and joined.is_boxed:  # its parts become floats first
            joined = replace(joined, dtype=_FLOAT, is_boxed=False)
        return replace(joined, form="sparse" if step.sparse_output_ else "array")

    def feature_union(self, step: Any, value: _Value, path: tuple[str, ...]) -> _Value:
        """Steps beside each other, each of all columns."""
        parts = []
        for name, each in step.transformer_list:
            if isinstance(each, str) and each == "drop":
                continue
            here = (*path, name)
            weight = (step.transformer_weights or {}).get(name)
            parts.append(self.weighted(self.step(each, value, here), weight, " → ".join(here)))
        # Steps that are called may write into what all of them are given.
        joined = self.joined(parts, " → ".join((*path, label_of(step))))
        is_sparse = any(part.form == "sparse" for part in parts)
        if (any(part.form == "unknown" for part in parts) or joined.is_boxed) and is_sparse:
            raise _Unknown("sparse parts are joined with a step that is called")
        return replace(joined, form="sparse" if is_sparse else "array")

    def data_frame_mapper(self, step: Any, value: _Value, path: tuple[str, ...]) -> _Value:
        """The same, of sklearn-pandas: columns by name, as arrays unless told otherwise."""
        if (
            value.form != "frame"
            or value.node != -1
            or step.df_out
            or step.built_default is not False
        ):
            raise _Unknown("its form or its frame is unusual")
        parts = []
        for chosen, each, options in step.built_features:
            names = (chosen,) if isinstance(chosen, str) else tuple(chosen)
            if not set(names) <= set(value.names):
                raise _Unknown("it selects columns that are not there")
            forms = ("vector", "array")
            if options.get("input_df", step.input_df):
                forms = ("series", "frame")
            part = _Value(form=forms[not isinstance(chosen, str)], names=names, width=len(names))
            here = (*path, str([*names]))
            made = part if each is None else self.step(each, part, here)
            if made.form == "series":
                made = replace(made, form="vector")
            parts.append(made)
        is_sparse = any(part.form == "sparse" for part in parts)
        if any(part.form == "unknown" for part in parts) and is_sparse and step.sparse:
            raise _Unknown("sparse parts are joined with a step that is called")
        joined = self.joined(parts, " → ".join((*path, label_of(step))), may_be_flat=True)
        if joined.is_boxed and is_sparse:
            raise _Unknown("sparse parts are joined with objects")
        return replace(joined, form="sparse" if is_sparse and step.sparse else "array")

    def weighted(self, value: _Value, weight: float | None, way: str) -> _Value:
        """A part of a container, by its weight."""
        if weight is None:
            return value
        natural = self.natural(value, way)
        if natural.dtype != _FLOAT or value.form == "unknown":
            raise _Unknown("a part with a weight is no array of floats")
        return replace(
            natural,
            form=value.form,
            node=self.add(Scale(inputs=(natural.node,), way=way, multiply=weight)),
        )

    def joined(self, parts: Sequence[_Value], way: str, *, may_be_flat: bool = False) -> _Value:
        """Parts beside each other."""
        arrays = []
        for part in parts:
            if part.form == "series" or (part.form == "vector" and not may_be_flat):
                raise _Unknown("a part has one dimension")
            arrays.append(self.natural(part, way, may_be_flat=may_be_flat))
        if not arrays:
            raise _Unknown("it gives no columns")
        dtypes = {array.dtype for array in arrays}
        is_boxed = any(array.is_boxed for array in arrays)
        has_text = any(array.dtype == _OBJECT and not array.is_boxed for array in arrays)
        if has_text and (is_boxed or len(dtypes) > 1):
            raise _Unknown("text beside numbers is an array of objects")
        node = self.add(Concat(inputs=tuple(array.node for array in arrays), way=way))
        widths = [array.width for array in arrays]
        width = None if None in widths else sum(one or 0 for one in widths)
        dtype = _OBJECT if is_boxed else np.result_type(*dtypes)
        return _Value(form="array", node=node, width=width, dtype=dtype, is_boxed=is_boxed)

    def function(self, step: Any, value: _Value, path: tuple[str, ...]) -> _Value:
        """FunctionTransformer: nothing, or a function of numpy."""
        if step.validate or step.kw_args or step.feature_names_out not in (None, "one-to-one"):
            raise _Unknown("it has options")
        if step.func is None:
            return value
        name = getattr(step.func, "__name__", "")
        if getattr(np, name, None) is not step.func or name not in UFUNCS_OF_FLOATS:
            raise _Unknown("its function is not known")
        if value.form not in ("frame", "array", "vector"):
            raise _Unknown(f"it is given a {value.form}")
        node = value.node
        if node == -1:
            # Of shorter numbers numpy makes shorter floats.
            accepted = [_FLOAT] + [np.dtype(one) for one in ("i4", "u4", "i8", "u8")] * (
                name in UFUNCS
            )
            if not all(self._dtypes[column] in accepted for column in value.names):
                raise _Unknown("columns are not numpy's numbers of 64 bits")
            node = self.columns(value.names, _FLOAT, path[0])
        elif value.dtype != _FLOAT:
            raise _Unknown(f"it is given an array of {value.dtype}")
        return replace(value, node=self.add(Ufunc(inputs=(node,), way=path[0], name=name)))

    def scaler(self, step: Any, value: _Value, path: tuple[str, ...]) -> _Value:
        """The scalers."""
        options: dict[str, Any] = {}
        match type(step).__name__:
            case "StandardScaler":
                options["subtract"] = step.mean_ if step.with_mean else None
                options["divide"] = step.scale_ if step.with_std else None
            case "MinMaxScaler":
                options = {"multiply": step.scale_, "add": step.min_}
                if step.clip:
                    options["clip"] = tuple(map(float, step.feature_range))
            case "MaxAbsScaler":
                options["divide"] = step.scale_
            case _:
                options["subtract"] = step.center_ if step.with_centering else None
                options["divide"] = step.scale_ if step.with_scaling else None
        return self.of_numbers(step, value, path, Scale, **options)

    def of_numbers(
        self, step: Any, value: _Value, path: tuple[str, ...], kind: type[Node], **options: Any
    ) -> _Value:
        """A node that takes one array of numbers and gives another."""
        node = self.numbers(value, step, path[0])
        made = self.add(kind(inputs=(node,), way=path[0], **options))
        return _Value(form="array", node=made, width=step.n_features_in_)

    def binarizer(self, step: Any, value: _Value, path: tuple[str, ...]) -> _Value:
        """Binarizer."""
        dtype = _FLOAT
        kinds = [self._dtypes[name] for name in value.names] if value.node == -1 else []
        if kinds and all(isinstance(kind, np.dtype) and kind.kind in "iuf" for kind in kinds):
            dtype = np.result_type(*kinds)  # whole numbers stay whole
        elif kinds:
            raise _Unknown("columns are not numpy's numbers")
        made = self.of_numbers(
            step, value, path, Binarize, threshold=float(step.threshold), dtype=dtype
        )
        return replace(made, dtype=dtype)

    def polynomial(self, step: Any, value: _Value, path: tuple[str, ...]) -> _Value:
        """PolynomialFeatures."""
        terms = tuple(
            step._combinations(
                step.n_features_in_, step._min_degree, step._max_degree, step.interaction_only,
                step.include_bias,
            )
        )  # fmt: skip
        made = self.of_numbers(step, value, path, Polynomial, terms=terms)
        return replace(made, width=len(terms))

    def projection(self, step: Any, value: _Value, path: tuple[str, ...]) -> _Value:
        """PCA and TruncatedSVD."""
        options: dict[str, Any] = {"components": step.components_}
        if hasattr(step, "mean_"):
            options["offset"] = step.mean_.reshape(1, -1) @ step.components_.T
        if getattr(step, "whiten", False):
            divide = np.sqrt(step.explained_variance_)
            divide[divide < np.finfo(divide.dtype).eps] = np.finfo(divide.dtype).eps
            options["divide"] = divide
        made = self.of_numbers(step, value, path, Project, **options)
        return replace(made, width=len(step.components_))

    def selector(self, step: Any, value: _Value, path: tuple[str, ...]) -> _Value:
        """Selections of features."""
        picked = np.flatnonzero(step.get_support())
        if not len(picked):
            raise _Unknown("it selects nothing")
        if value.is_boxed:
            raise _Unknown("it is given objects")
        self.stays_float(value)
        made = self.of_numbers(step, value, path, Pick, columns=picked, demands_finite=True)
        return replace(made, width=len(picked))

    def imputer(self, step: Any, value: _Value, path: tuple[str, ...]) -> _Value:
        """SimpleImputer for NaN."""
        statistics = step.statistics_
        if not (isinstance(step.missing_values, float) and math.isnan(step.missing_values)):
            raise _Unknown("something else than NaN is missing")
        if statistics.dtype.kind == "f" and np.isnan(statistics).any():
            raise _Unknown("a column had no value in training")
        if statistics.dtype.kind == "f":
            if step.strategy not in ("mean", "median"):
                self.stays_float(value)
            node, dtype = self.numbers(value, step, path[0]), _FLOAT
        else:
            _check_names(step, value)
            natural = self.natural(value, path[0])
            node, dtype = natural.node, natural.dtype
            if (
                dtype.kind != "O"
                or natural.is_boxed
                or value.form not in ("frame", "array")
                or step.add_indicator
            ):
                raise _Unknown(f"it is given {dtype}")
        indicated = None
        if step.add_indicator:
            indicated = np.asarray(step.indicator_.features_)
        made = Impute(inputs=(node,), way=path[0], statistics=statistics, indicated=indicated)
        width = len(statistics) + (0 if indicated is None else len(indicated))
        return _Value(form="array", node=self.add(made), width=width, dtype=dtype)

    def coded(self, step: Any, value: _Value, way: str) -> tuple[int, ...]:
        """The nodes of what an encoder is given: one for each column of the frame, or one for all."""
        if value.form not in ("frame", "array") or value.is_boxed or step._infrequent_enabled:
            raise _Unknown(f"it is given a {value.form}, or joins rare categories")
        _check_names(step, value)
        if value.node != -1:
            if any(known.dtype != value.dtype for known in step.categories_):
                raise _Unknown(f"it is given an array of {value.dtype}")
            return (value.node,)
        nodes = []
        for name, known in zip(value.names, step.categories_, strict=True):
            kind = self._dtypes[name]
            if known.dtype != (np.dtype(object) if _is_of_objects(kind) else kind):
                raise _Unknown(f"column {name!r} is {kind}, and its categories are {known.dtype}")
            nodes.append(self.columns((name,), known.dtype, way))
        return tuple(nodes)

    def one_hot(self, step: Any, value: _Value, path: tuple[str, ...]) -> _Value:
        """OneHotEncoder."""
        if step.handle_unknown not in ("error", "ignore", "infrequent_if_exist"):
            raise _Unknown("it warns")
        dropped = step.drop_idx_
        made = OneHot(
            inputs=self.coded(step, value, path[0]),
            way=path[0],
            categories=tuple(step.categories_),
            dropped=(None,) * len(step.categories_) if dropped is None else tuple(dropped),
            ignores_unknown=step.handle_unknown != "error",
            dtype=np.dtype(step.dtype),
        )
        return self.wide(made, step.sparse_output)

    def wide(self, node: OneHot, is_sparse: bool) -> _Value:
        """Add a node that scikit-learn may have as a sparse matrix."""
        if node.width > MOST_WIDE:
            raise _Unknown(f"it has {node.width} columns")
        form = "sparse" if is_sparse else "array"
        return _Value(form=form, node=self.add(node), width=node.width, dtype=node.dtype)

    def ordinal(self, step: Any, value: _Value, path: tuple[str, ...]) -> _Value:
        """OrdinalEncoder."""
        made = Ordinal(
            inputs=self.coded(step, value, path[0]),
            way=path[0],
            categories=tuple(step.categories_),
            missing=tuple(
                step._missing_indices.get(place) for place in range(len(step.categories_))
            ),
            missing_value=step.encoded_missing_value,
            unknown_value=(
                step.unknown_value if step.handle_unknown == "use_encoded_value" else None
            ),
            dtype=np.dtype(step.dtype),
        )
        node = self.add(made)
        return _Value(form="array", node=node, width=len(made.categories), dtype=made.dtype)

    def binned(self, step: Any, value: _Value, path: tuple[str, ...]) -> _Value:
        """KBinsDiscretizer."""
        if step.dtype not in (None, np.float64):
            raise _Unknown("it gives floats of 32 bits")
        edges = tuple(edges[1:-1] for edges in step.bin_edges_)
        made = self.of_numbers(step, value, path, Bins, edges=edges)
        if step.encode == "ordinal":
            return made
        node = OneHot(
            inputs=(made.node,),
            way=path[0],
            categories=tuple(np.arange(len(one) + 1, dtype=np.float64) for one in edges),
            dropped=(None,) * len(edges),
            ignores_unknown=False,
            dtype=_FLOAT,
        )
        return self.wide(node, step.encode == "onehot")

    # Estimators

    def end(self, step: Any, value: _Value, path: tuple[str, ...]) -> End:
        """What an estimator, or a pipeline that ends in one, makes of a value."""
        name = library_name(step)
        if name in _SEARCHES:
            return self.end(step.best_estimator_, value, path)
        if name == "sklearn.pipeline.Pipeline":
            for label, each in step.steps[:-1]:
                value = self.step(each, value, (*path, label))
            return self.end(step.steps[-1][1], value, (*path, step.steps[-1][0]))
        if not hasattr(step, "predict"):
            raise _NoPlan("the pipeline only transforms")
        way = " → ".join((*path, label_of(step)))
        if name == "sklearn.compose._target.TransformedTargetRegressor":
            inner = self.end(step.regressor_, value, path)
            return TargetEnd(
                input=inner.input, way=way, inner=inner, transformer=step.transformer_,
                is_flat=step._training_dim == 1,
            )  # fmt: skip
        mark, has_reasons = len(self.nodes), len(self.reasons)
        try:
            if name in _ENDS:
                return _ENDS[name](self, step, value, way)
            if name in _WRAPPERS:
                return _WRAPPERS[name](self, step, value, path)
        except _Unknown as reason:
            self.reasons[has_reasons:] = [f"{way}: {reason}"]
            del self.nodes[mark:]
        return OpaqueEnd(input=self.handed(value, way), way=way, estimator=step)

    def linear(self, step: Any, value: _Value, way: str) -> End:
        """Linear regressors."""
        if step.coef_.dtype != _FLOAT:
            raise _Unknown("it calculates with 32 bits")
        node = self.numbers(value, step, way, at_end=True)
        is_flat = type(step).__name__ in ("SGDRegressor", "PassiveAggressiveRegressor")
        return Linear(
            input=node, way=way, coef=step.coef_, intercept=step.intercept_, is_flat=is_flat
        )

    def logistic(self, step: Any, value: _Value, way: str) -> End:
        """Linear classifiers."""
        kind, labels = type(step).__name__, step.classes_
        is_two = isinstance(labels, np.ndarray) and len(labels) == 2
        of_labels = getattr(getattr(step, "_label_binarizer", None), "y_type_", "")
        if not isinstance(labels, np.ndarray) or of_labels.startswith("multilabel"):
            raise _Unknown("it has several outputs")
        if step.coef_.dtype != _FLOAT or len(step.coef_) != (1 if is_two else len(labels)):
            raise _Unknown("it calculates with 32 bits, or otherwise than by class")
        link = "none"
        if kind in ("LogisticRegression", "LogisticRegressionCV"):
            # Since scikit-learn 1.8 there is one way only.
            multi_class = getattr(step, "multi_class", "auto")
            by_class = multi_class == "ovr" or (
                multi_class in ("auto", "deprecated") and (is_two or step.solver == "liblinear")
            )
            link = "expit" if by_class else "softmax of two" if is_two else "softmax"
        elif kind == "LinearDiscriminantAnalysis":
            link = "expit" if is_two else "softmax"
        elif kind == "SGDClassifier":
            if step.loss == "modified_huber":
                raise _Unknown("its probabilities are of another kind")
            link = "expit" if step.loss == "log_loss" else "none"
        node = self.numbers(value, step, way, at_end=True)
        return Logistic(
            input=node,
            way=way,
            coef=step.coef_,
            intercept=step.intercept_,
            labels=labels,
            link=link,
        )

    def trees(self, step: Any, value: _Value, way: str) -> End:
        """Trees and forests."""
        if step.n_outputs_ != 1:
            raise _Unknown("it has several outputs")
        if getattr(step, "n_jobs", None) not in (None, 1):
            raise _Unknown("its threads add up in any order")
        trees = tuple(each.tree_ for each in getattr(step, "estimators_", [step]))
        node = self.numbers(value, step, way, at_end=True)
        labels = getattr(step, "classes_", None)
        return Trees(input=node, way=way, estimator=step, trees=trees, labels=labels)

    def boosted(self, step: Any, value: _Value, way: str) -> End:
        """scikit-learn's gradient boosting."""
        constant = library_name(step.init_) in (
            "sklearn.dummy.DummyClassifier", "sklearn.dummy.DummyRegressor",
        )  # fmt: skip
        if not constant and step.init_ != "zero":
            raise _Unknown("it begins with an estimator")
        start = np.zeros((1, step.n_trees_per_iteration_))
        if constant:
            from sklearn.base import is_classifier
            from sklearn.ensemble._gb import _init_raw_predictions

            row = np.zeros((1, step.n_features_in_), np.float32)
            start = _init_raw_predictions(row, step.init_, step._loss, is_classifier(step))
        node = self.numbers(value, step, way, at_end=True)
        labels = getattr(step, "classes_", None)
        return Boosted(input=node, way=way, estimator=step, start=np.asarray(start), labels=labels)

    def boosted_by_bins(self, step: Any, value: _Value, way: str) -> End:
        """scikit-learn's histogram gradient boosting."""
        if step._preprocessor is not None:
            raise _Unknown("it has columns of categories")
        bitsets = step._bin_mapper.make_known_categories_bitsets()
        node = self.numbers(value, step, way, at_end=True)
        labels = getattr(step, "classes_", None)
        return BoostedByBins(input=node, way=way, estimator=step, bitsets=bitsets, labels=labels)

    def boosted_by_lightgbm(self, step: Any, value: _Value, way: str) -> End:
        """LightGBM's estimators."""
        labels = getattr(step, "classes_", None)
        if labels is not None and (callable(step.objective_) or len(labels) < 2):
            raise _Unknown("it has no probabilities of its classes")
        if getattr(step.booster_, "pandas_categorical", None):
            raise _Unknown("it has columns of categories")
        asked = _AskedBooster()
        beside = copy.copy(step)
        beside._Booster = asked
        try:
            sys.modules["lightgbm"].LGBMModel.predict(beside, np.zeros((1, step.n_features_in_)))
        # Whatever another release does with the stand-in: the estimator is called then.
        except Exception as error:
            raise _Unknown(f"it asks its booster otherwise: {error}") from error
        if asked.options is None:
            raise _Unknown("it asks its booster otherwise")
        node = self.numbers(value, step, way, at_end=True)
        return BoostedByLightGbm(
            input=node, way=way, booster=step.booster_, options=asked.options, labels=labels
        )

    def asked(
        self, step: Any, value: _Value, path: tuple[str, ...], methods: Sequence[str]
    ) -> tuple[End, str]:
        """The end of a classifier that another asks, and the first of these methods that it has."""
        while library_name(step) == "sklearn.frozen._frozen.FrozenEstimator":
            step = step.estimator
        inner = self.end(step, value, path)
        method = next((name for name in methods if hasattr(step, name)), "")
        known = (
            method == "predict_proba"
            or isinstance(inner, OpaqueEnd)
            or (type(inner).decision_function is not End.decision_function)
        )
        if not known or not isinstance(inner.classes, np.ndarray):
            raise _Unknown("it asks for more than is known of its classifier")
        return inner, method

    def calibrated(self, step: Any, value: _Value, path: tuple[str, ...]) -> End:
        """CalibratedClassifierCV."""
        inners, methods, curves, places = [], [], [], []
        for index, each in enumerate(step.calibrated_classifiers_):
            label = f"{type(step).__name__}[{index}]"
            inner, method = self.asked(
                each.estimator, value, (*path, label), ("decision_function", "predict_proba")
            )
            own = np.searchsorted(step.classes_, each.estimator.classes_)
            known = {
                "sklearn.calibration._SigmoidCalibration",
                "sklearn.isotonic.IsotonicRegression",
            }
            if not np.array_equal(each.classes, step.classes_) or not known.issuperset(
                map(library_name, each.calibrators)
            ):
                raise _Unknown("its calibration is of another kind")
            if any(getattr(curve, "out_of_bounds", "clip") != "clip" for curve in each.calibrators):
                raise _Unknown("its calibration is of another kind")
            inners.append(inner)
            methods.append(method)
            curves.append(tuple(each.calibrators))
            is_two = len(step.classes_) == 2
            places.append((1,) if is_two else tuple(own.tolist()))
        return Calibrated(
            input=inners[0].input, way=" → ".join((*path, label_of(step))), inners=tuple(inners),
            methods=tuple(methods), curves=tuple(curves), places=tuple(places), labels=step.classes_,
        )  # fmt: skip

    def threshold(self, step: Any, value: _Value, path: tuple[str, ...]) -> End:
        """FixedThresholdClassifier and TunedThresholdClassifierCV."""
        methods = step._get_response_method()
        methods = (methods,) if isinstance(methods, str) else tuple(methods)
        estimator = getattr(step, "estimator_", step.estimator)
        inner, method = self.asked(estimator, value, (*path, type(step).__name__), methods)
        if hasattr(step, "best_threshold_"):
            threshold, positive = step.best_threshold_, step._curve_scorer._get_pos_label()
        else:
            threshold, positive = step.threshold, step.pos_label
            if threshold == "auto":
                threshold = 0.5 if method == "predict_proba" else 0.0
        labels = inner.classes
        if labels is None or len(labels) != 2 or not np.array_equal(labels, step.classes_):
            raise _Unknown("its classes are not two")
        places = [1] if positive is None else np.flatnonzero(labels == positive).tolist()
        if len(places) != 1:
            raise _Unknown("its class is not among them")
        return Threshold(
            input=inner.input, way=" → ".join((*path, label_of(step))), inner=inner, method=method,
            place=places[0], threshold=float(threshold),
        )  # fmt: skip


class _AskedBooster:
    """Stands in for a LightGBM booster, to learn what its scikit-learn interface hands it beside the rows."""

    options: dict[str, Any] | None = None

    def predict(self, rows: Array, **options: Any) -> Array:
        """(rows,) zeros."""
        self.options = options
        return np.zeros(len(rows))


def _dtype_of(column: Column) -> Any:
    """The dtype of a column, in pandas."""
    if column.dtype == "category":
        return pd.CategoricalDtype(pd.Index(column.categories or (), dtype=column.categories_dtype))
    return pd.api.types.pandas_dtype(column.dtype)


def _is_of_objects(dtype: Any) -> bool:
    """Whether numpy makes Python objects of a column."""
    if isinstance(dtype, pd.CategoricalDtype):
        dtype = dtype.categories.dtype
    return dtype == np.dtype(object) or isinstance(dtype, pd.StringDtype)


def _check_names(step: Any, value: _Value) -> None:
    """Demand the columns that a step was fitted with: scikit-learn warns of others, or refuses them."""
    fitted = getattr(step, "feature_names_in_", None)
    names = value.names if value.form == "frame" else None
    if names != (None if fitted is None else tuple(fitted)):
        raise _Unknown("it was fitted with other columns than it is given")
    if value.width is not None and value.width != getattr(step, "n_features_in_", value.width):
        raise _Unknown("it was fitted with another number of columns than it is given")


_Step = Callable[[_Reader, Any, _Value, tuple[str, ...]], _Value]
_STEPS: dict[str, _Step] = {
    "sklearn.compose._column_transformer.ColumnTransformer": _Reader.column_transformer,
    "sklearn.decomposition._pca.PCA": _Reader.projection,
    "sklearn.decomposition._truncated_svd.TruncatedSVD": _Reader.projection,
    "sklearn.feature_selection._from_model.SelectFromModel": _Reader.selector,
    "sklearn.feature_selection._univariate_selection.SelectKBest": _Reader.selector,
    "sklearn.feature_selection._univariate_selection.SelectPercentile": _Reader.selector,
    "sklearn.feature_selection._variance_threshold.VarianceThreshold": _Reader.selector,
    "sklearn.impute._base.SimpleImputer": _Reader.imputer,
    "sklearn.pipeline.FeatureUnion": _Reader.feature_union,
    "sklearn.pipeline.Pipeline": _Reader.pipeline,
    "sklearn.preprocessing._data.Binarizer": _Reader.binarizer,
    "sklearn.preprocessing._data.MaxAbsScaler": _Reader.scaler,
    "sklearn.preprocessing._data.MinMaxScaler": _Reader.scaler,
    "sklearn.preprocessing._data.RobustScaler": _Reader.scaler,
    "sklearn.preprocessing._data.StandardScaler": _Reader.scaler,
    "sklearn.preprocessing._discretization.KBinsDiscretizer": _Reader.binned,
    "sklearn.preprocessing._encoders.OneHotEncoder": _Reader.one_hot,
    "sklearn.preprocessing._encoders.OrdinalEncoder": _Reader.ordinal,
    "sklearn.preprocessing._function_transformer.FunctionTransformer": _Reader.function,
    "sklearn.preprocessing._polynomial.PolynomialFeatures": _Reader.polynomial,
    "sklearn_pandas.dataframe_mapper.DataFrameMapper": _Reader.data_frame_mapper,
    "sklearn_pandas.pipeline.TransformerPipeline": _Reader.pipeline,
}
_CONTAINERS = (
    _Reader.column_transformer, _Reader.feature_union, _Reader.pipeline, _Reader.data_frame_mapper,
)  # fmt: skip
_SEARCHES = frozenset(
    f"sklearn.model_selection.{name}"
    for name in (
        "_search.GridSearchCV", "_search.RandomizedSearchCV",
        "_search_successive_halving.HalvingGridSearchCV",
        "_search_successive_halving.HalvingRandomSearchCV",
    )
)  # fmt: skip
_LINEAR = (
    "_base.LinearRegression", "_bayes.ARDRegression", "_bayes.BayesianRidge", "_coordinate_descent.ElasticNet",
    "_coordinate_descent.ElasticNetCV", "_coordinate_descent.Lasso", "_coordinate_descent.LassoCV",
    "_coordinate_descent.MultiTaskElasticNet", "_coordinate_descent.MultiTaskElasticNetCV",
    "_coordinate_descent.MultiTaskLasso", "_coordinate_descent.MultiTaskLassoCV", "_huber.HuberRegressor",
    "_least_angle.Lars", "_least_angle.LarsCV", "_least_angle.LassoLars", "_least_angle.LassoLarsCV",
    "_least_angle.LassoLarsIC", "_omp.OrthogonalMatchingPursuit", "_omp.OrthogonalMatchingPursuitCV",
    "_passive_aggressive.PassiveAggressiveRegressor", "_quantile.QuantileRegressor", "_ridge.Ridge",
    "_ridge.RidgeCV", "_stochastic_gradient.SGDRegressor", "_theil_sen.TheilSenRegressor",
)  # fmt: skip
_LOGISTIC = (
    "_logistic.LogisticRegression", "_logistic.LogisticRegressionCV",
    "_passive_aggressive.PassiveAggressiveClassifier", "_perceptron.Perceptron", "_ridge.RidgeClassifier",
    "_ridge.RidgeClassifierCV", "_stochastic_gradient.SGDClassifier",
)  # fmt: skip
_ENDS: dict[str, Callable[[_Reader, Any, _Value, str], End]] = {
    **{f"sklearn.linear_model.{name}": _Reader.linear for name in _LINEAR},
    **{f"sklearn.linear_model.{name}": _Reader.logistic for name in _LOGISTIC},
    "sklearn.discriminant_analysis.LinearDiscriminantAnalysis": _Reader.logistic,
    "sklearn.svm._classes.LinearSVC": _Reader.logistic,
    "sklearn.svm._classes.LinearSVR": _Reader.linear,
    **{
        f"sklearn.{name}": _Reader.trees
        for name in (
            "tree._classes.DecisionTreeClassifier", "tree._classes.DecisionTreeRegressor",
            "tree._classes.ExtraTreeClassifier", "tree._classes.ExtraTreeRegressor",
            "ensemble._forest.ExtraTreesClassifier", "ensemble._forest.ExtraTreesRegressor",
            "ensemble._forest.RandomForestClassifier", "ensemble._forest.RandomForestRegressor",
        )
    },
    "sklearn.ensemble._gb.GradientBoostingClassifier": _Reader.boosted,
    "sklearn.ensemble._gb.GradientBoostingRegressor": _Reader.boosted,
    **{
        f"sklearn.ensemble._hist_gradient_boosting.gradient_boosting.HistGradientBoosting{kind}": _Reader.boosted_by_bins
        for kind in ("Classifier", "Regressor")
    },
    **{
        f"lightgbm.sklearn.LGBM{kind}": _Reader.boosted_by_lightgbm
        for kind in ("Classifier", "Ranker", "Regressor")
    },
}  # fmt: skip
_WRAPPERS: dict[str, Callable[[_Reader, Any, _Value, tuple[str, ...]], End]] = {
    "sklearn.calibration.CalibratedClassifierCV": _Reader.calibrated,
    "sklearn.model_selection._classification_threshold.FixedThresholdClassifier": _Reader.threshold,
    "sklearn.model_selection._classification_threshold.TunedThresholdClassifierCV": _Reader.threshold,
}
