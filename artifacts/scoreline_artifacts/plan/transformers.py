"""Reads fitted transformers into nodes of a plan. What is not known to the letter is called as before, with what scikit-learn would hand it.

Known is a step by the full name of its class, never by what it inherits from, and only if nothing on it or its class is
patched. Containers dissolve: their steps become nodes.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scoreline_artifacts.plan.nodes import (
    MOST_WIDE,
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
from scoreline_artifacts.plan.texts import WORDS, TfIdf, WordCounts
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
    "_predict_proba_lr", "_raw_predict", "_raw_predict_init", "_transform", "_concatenate_predictions", "_validate_input", "_validate_X_predict",
    "_get_col_subset", "_hstack", "_iter", "get_support", "build_analyzer", "build_preprocessor", "build_tokenizer",
    "_compute_proba_from_decision", "_get_median_predict", "decode", "get_stop_words", "_count_vocab", "_char_ngrams", "_char_wb_ngrams", "_word_ngrams",
)  # fmt: skip
"""Methods that decide what a step does."""
_FLOAT, _OBJECT = np.dtype(np.float64), np.dtype(object)


class UnknownStep(Exception):
    """Raised when a step is to be called, since the step or its input is not known to the letter."""


class BoxedInput(Exception):
    """Raised when a called step would be given booleans beside numbers: the step that joins them is to be called, too."""


@dataclass(frozen=True, kw_only=True)
class StepValue:
    """What scikit-learn has between two steps, and the node that holds it."""

    form: str
    """`frame`, `series`, `array`, `vector` (an array of one dimension), `sparse`, or `unknown`: the output of a called step."""
    node: int = -1
    """-1: columns of the frame that is scored, of which no node has been made yet."""
    names: tuple[str, ...] = ()
    """The columns of a frame."""
    width: int | None = None
    """None: a called step decides."""
    dtype: np.dtype[Any] = _FLOAT
    """Of an array."""
    is_boxed: bool = False
    """Whether scikit-learn has an array of objects, since booleans stand beside numbers; the node has them as floats."""
    is_wide: bool = False
    """Whether the node has a sparse matrix, too; it has a dense array for the others of form `sparse`."""


def library_name(estimator: object) -> str:
    """The full name of an object's class; empty where it is not a library's own, or patched."""
    kind = type(estimator)
    if getattr(sys.modules.get(kind.__module__), kind.__qualname__, None) is not kind:
        return ""
    library = kind.__module__.partition(".")[0]
    patched = set(getattr(estimator, "__dict__", {})).intersection(_METHODS)
    for name in _METHODS:
        method = getattr(kind, name, None)
        # A method that a library inherits from scikit-learn is no patch.
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
    location = f", {Path(code.co_filename).name}:{code.co_firstlineno}" if code else ""
    return f"{type(step).__name__}({module}.{name}){location}"


class TransformerReader:
    """The nodes so far, and how each kind of transformer adds to them."""

    def __init__(self, columns: Sequence[Column], *, takes_boxed: bool = True) -> None:
        self._takes_boxed = takes_boxed
        self.nodes: list[Node] = []
        self.reasons: list[str] = []
        self._positions = {column.name: index for index, column in enumerate(columns)}
        self._dtypes = {column.name: _dtype_of(column) for column in columns}

    def add(self, node: Node) -> int:
        """Append a node; returns its index."""
        self.nodes.append(node)
        return len(self.nodes)

    # Inputs of steps

    def handed(self, value: StepValue, way: str) -> int:
        """The node that gives a value as scikit-learn hands it on."""
        if value.node == -1:
            names: tuple[str, ...] | str | None = value.names
            if value.form == "frame" and value.names == tuple(self._positions):
                names = None
            elif value.form in ("series", "vector"):
                names = value.names[0]
            as_values = value.form in ("array", "vector")
            return self.add(Selected(inputs=(0,), way=way, names=names, as_values=as_values))
        if value.is_boxed:
            raise BoxedInput
        if value.form != "unknown":
            return self.add(
                Handed(inputs=(value.node,), way=way, form=value.form, names=value.names)
            )
        return value.node

    def natural(self, value: StepValue, way: str, *, may_be_flat: bool = False) -> StepValue:
        """The value as an array of two dimensions, of the dtype that numpy makes of it."""
        if value.form == "unknown":
            node = Given(inputs=(value.node,), way=way, is_joined=True, may_be_flat=may_be_flat)
            return StepValue(form="array", node=self.add(node))
        if value.node != -1:
            return value
        dtypes = [self._dtypes[name] for name in value.names]
        if _are_numbers(dtypes):
            if {column_dtype.kind == "b" for column_dtype in dtypes} == {True, False}:
                if not self._takes_boxed:
                    raise UnknownStep("numbers beside booleans are objects")
                index = self.columns(value.names, _FLOAT, way)
                return replace(value, form="array", node=index, dtype=_OBJECT, is_boxed=True)
            dtype = np.result_type(*dtypes)
        elif all(map(_is_of_objects, dtypes)):
            dtype = _OBJECT
        else:
            raise UnknownStep("columns of different types are one array")
        index = self.columns(value.names, dtype, way)
        return replace(value, form="array", node=index, dtype=dtype)

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

    def numbers(
        self,
        value: StepValue,
        step: Any,
        way: str,
        *,
        at_end: bool = False,
        takes_wide: bool = False,
    ) -> int:
        """The node of a value as the float64 array that scikit-learn makes of it for a step.

        With `takes_wide`, it may be a sparse matrix.
        """
        if value.form == "unknown":
            names = getattr(step, "feature_names_in_", None)
            return self.add(
                Given(
                    inputs=(value.node,),
                    way=way,
                    names=None if names is None else tuple(names),
                    width=getattr(step, "n_features_in_", None),
                    takes_sparse=at_end,
                )
            )
        _check_names(step, value)
        takes_sparse = takes_wide if value.is_wide else at_end
        if value.form in ("series", "vector") or (value.form == "sparse" and not takes_sparse):
            raise UnknownStep(f"it is given a {value.form}")
        if value.node == -1:
            dtypes = [self._dtypes[name] for name in value.names]
            if not _are_numbers(dtypes):
                raise UnknownStep("columns are not numpy's numbers")
            # Transformers leave floats of 32 bits what they are, unless a wider number is among them.
            dtype = np.result_type(*dtypes)
            if dtype.kind == "f" and dtype != _FLOAT and not at_end:
                raise UnknownStep("columns have 32 bits")
            return self.columns(value.names, _FLOAT, way)
        stays_whole = at_end or (takes_wide and value.is_wide)
        is_plain = value.dtype == _FLOAT or (stays_whole and value.dtype.kind in "iub")
        if not is_plain and not value.is_boxed:
            raise UnknownStep(f"it is given an array of {value.dtype}")
        if value.width is None:
            width = getattr(step, "n_features_in_", None)
            return self.add(Given(inputs=(value.node,), way=way, width=width))
        return value.node

    def stays_float(self, value: StepValue) -> None:
        """Demand that the value is, or becomes, float64 for a step that leaves whole numbers what they are."""
        if value.node == -1 and any(self._dtypes[name] != _FLOAT for name in value.names):
            raise UnknownStep("columns are no floats, and stay so")

    # Transformers

    def step(self, step: Any, value: StepValue, path: tuple[str, ...]) -> StepValue:
        """What a transformer makes of a value."""
        if step is None or (isinstance(step, str) and step == "passthrough"):
            return value
        node_count = len(self.nodes)
        read = _STEPS.get(library_name(step))
        way = " → ".join((*path, label_of(step)))
        config = getattr(step, "_sklearn_output_config", {}).get("transform", "default")
        # A step that does not copy writes into the input of other steps, too.
        if read is not None and config == "default" and getattr(step, "copy", True) is not False:
            try:
                return read(self, step, value, path if read in _CONTAINERS else (way,))
            except UnknownStep as reason:
                self.reasons.append(f"{way}: {reason}")
                del self.nodes[node_count:]
        node = self.handed(value, way)
        return StepValue(
            form="unknown", node=self.add(Opaque(inputs=(node,), way=way, transformer=step))
        )

    def pipeline(self, step: Any, value: StepValue, path: tuple[str, ...]) -> StepValue:
        """Steps after one another."""
        for name, inner in step.steps:
            value = self.step(inner, value, (*path, name))
        return value

    def column_transformer(self, step: Any, value: StepValue, path: tuple[str, ...]) -> StepValue:
        """Steps beside each other, each of some columns."""
        _check_names(step, value)
        outputs = []
        for name, transformer, columns in step.transformers_:
            indices = step._transformer_to_input_indices[name]
            if (isinstance(transformer, str) and transformer == "drop") or len(indices) == 0:
                continue
            if value.form == "frame":
                names = tuple(value.names[index] for index in indices)
                form = "series" if np.isscalar(columns) else "frame"
                selected = replace(value, form=form, names=names, width=len(names))
                inner_path = (*path, name, str([*names]))
            else:
                selected = replace(value, width=len(indices))
                inner_path = (*path, name, str([*indices]))
            way = " → ".join(inner_path)
            if value.node != -1:
                if np.isscalar(columns) or value.form not in ("frame", "array"):
                    raise UnknownStep(f"it is given a {value.form}")
                pick = Pick(inputs=(value.node,), way=way, columns=np.array(indices))
                selected = replace(selected, node=self.add(pick))
            elif value.form != "frame":
                raise UnknownStep(f"it is given a {value.form}")
            output = self.step(transformer, selected, inner_path)
            weight = (step.transformer_weights or {}).get(name)
            outputs.append(self.weighted(output, weight, way))
        joined = self.joined(
            outputs, " → ".join((*path, label_of(step))), stays_sparse=step.sparse_output_
        )
        if step.sparse_output_ and joined.is_boxed:  # the outputs become floats first
            joined = replace(joined, dtype=_FLOAT, is_boxed=False)
        return replace(joined, form="sparse" if step.sparse_output_ else "array")

    def feature_union(self, step: Any, value: StepValue, path: tuple[str, ...]) -> StepValue:
        """Steps beside each other, each of all columns."""
        outputs = []
        for name, transformer in step.transformer_list:
            if isinstance(transformer, str) and transformer == "drop":
                continue
            inner_path = (*path, name)
            output = self.step(transformer, value, inner_path)
            weight = (step.transformer_weights or {}).get(name)
            outputs.append(self.weighted(output, weight, " → ".join(inner_path)))
        joined = self.joined(outputs, " → ".join((*path, label_of(step))))
        is_sparse = any(output.form == "sparse" for output in outputs)
        if (any(output.form == "unknown" for output in outputs) or joined.is_boxed) and is_sparse:
            raise UnknownStep("sparse parts are joined with a step that is called")
        return replace(joined, form="sparse" if is_sparse else "array")

    def data_frame_mapper(self, step: Any, value: StepValue, path: tuple[str, ...]) -> StepValue:
        """sklearn-pandas' DataFrameMapper: steps beside each other, each of columns by name, as arrays unless `input_df` is set."""
        if (
            value.form != "frame"
            or value.node != -1
            or step.df_out
            or step.built_default is not False
        ):
            raise UnknownStep("its form or its frame is unusual")
        outputs = []
        for columns, transformer, options in step.built_features:
            is_flat = isinstance(columns, str)
            names = (columns,) if is_flat else tuple(columns)
            if not set(names) <= set(value.names):
                raise UnknownStep("it selects columns that are not there")
            if options.get("input_df", step.input_df):
                form = "series" if is_flat else "frame"
            else:
                form = "vector" if is_flat else "array"
            selected = StepValue(form=form, names=names, width=len(names))
            output = self.step(transformer, selected, (*path, str([*names])))
            if output.form == "series":
                output = replace(output, form="vector")
            outputs.append(output)
        is_sparse = any(output.form == "sparse" for output in outputs)
        if any(output.form == "unknown" for output in outputs) and is_sparse and step.sparse:
            raise UnknownStep("sparse parts are joined with a step that is called")
        way = " → ".join((*path, label_of(step)))
        joined = self.joined(outputs, way, may_be_flat=True, stays_sparse=step.sparse)
        if joined.is_boxed and is_sparse:
            raise UnknownStep("sparse parts are joined with objects")
        return replace(joined, form="sparse" if is_sparse and step.sparse else "array")

    def weighted(self, value: StepValue, weight: float | None, way: str) -> StepValue:
        """The output of a container's step, multiplied by its weight."""
        if weight is None:
            return value
        natural = self.natural(value, way)
        if natural.dtype != _FLOAT or value.form == "unknown":
            raise UnknownStep("a part with a weight is no array of floats")
        return replace(
            natural,
            form=value.form,
            node=self.add(Scale(inputs=(natural.node,), way=way, multiply=weight)),
        )

    def joined(
        self,
        values: Sequence[StepValue],
        way: str,
        *,
        may_be_flat: bool = False,
        stays_sparse: bool = True,
    ) -> StepValue:
        """Outputs of a container's steps beside each other; without `stays_sparse`, sparse ones become dense."""
        arrays = []
        for value in values:
            if value.form == "series" or (value.form == "vector" and not may_be_flat):
                raise UnknownStep("a part has one dimension")
            arrays.append(self.natural(value, way, may_be_flat=may_be_flat))
        if not arrays:
            raise UnknownStep("it gives no columns")
        dtypes = {array.dtype for array in arrays}
        is_boxed = any(array.is_boxed for array in arrays)
        has_text = any(array.dtype == _OBJECT and not array.is_boxed for array in arrays)
        if has_text and (is_boxed or len(dtypes) > 1):
            raise UnknownStep("text beside numbers is an array of objects")
        is_wide = any(array.is_wide for array in arrays)
        if is_wide and (has_text or is_boxed):
            raise UnknownStep("sparse parts are joined with objects")
        widths = [array.width for array in arrays if array.width is not None]
        width = sum(widths) if len(widths) == len(arrays) else None
        if is_wide and not stays_sparse and (width is None or width > MOST_WIDE):
            raise UnknownStep(f"it makes {width} sparse columns dense")
        is_wide = is_wide and stays_sparse
        inputs = tuple(array.node for array in arrays)
        node = self.add(Concat(inputs=inputs, way=way, is_sparse=is_wide))
        dtype = _OBJECT if is_boxed else np.result_type(*dtypes)
        return StepValue(
            form="array", node=node, width=width, dtype=dtype, is_boxed=is_boxed, is_wide=is_wide
        )

    def function(self, step: Any, value: StepValue, path: tuple[str, ...]) -> StepValue:
        """FunctionTransformer: nothing, or a function of numpy."""
        if step.validate or step.kw_args or step.feature_names_out not in (None, "one-to-one"):
            raise UnknownStep("it has options")
        if step.func is None:
            return value
        name = getattr(step.func, "__name__", "")
        if getattr(np, name, None) is not step.func or name not in UFUNCS_OF_FLOATS:
            raise UnknownStep("its function is not known")
        if value.form not in ("frame", "array", "vector"):
            raise UnknownStep(f"it is given a {value.form}")
        node = value.node
        if node == -1:
            # Of shorter numbers numpy makes shorter floats.
            accepted: list[np.dtype[Any]] = [_FLOAT]
            if name in UFUNCS:
                accepted += map(np.dtype, ("i4", "u4", "i8", "u8"))
            if not all(self._dtypes[column] in accepted for column in value.names):
                raise UnknownStep("columns are not numpy's numbers of 64 bits")
            node = self.columns(value.names, _FLOAT, path[0])
        elif value.dtype != _FLOAT:
            raise UnknownStep(f"it is given an array of {value.dtype}")
        return replace(value, node=self.add(Ufunc(inputs=(node,), way=path[0], name=name)))

    def scaler(self, step: Any, value: StepValue, path: tuple[str, ...]) -> StepValue:
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
        self, step: Any, value: StepValue, path: tuple[str, ...], kind: type[Node], **options: Any
    ) -> StepValue:
        """A node that takes one array of numbers and gives another."""
        node = self.numbers(value, step, path[0], takes_wide=kind in (Project, Pick))
        node = self.add(kind(inputs=(node,), way=path[0], **options))
        return StepValue(form="array", node=node, width=step.n_features_in_)

    def binarizer(self, step: Any, value: StepValue, path: tuple[str, ...]) -> StepValue:
        """Binarizer."""
        dtype = _FLOAT
        if value.node == -1:
            dtypes = [self._dtypes[name] for name in value.names]
            if not _are_numbers(dtypes, kinds="iuf"):
                raise UnknownStep("columns are not numpy's numbers")
            dtype = np.result_type(*dtypes)  # whole numbers stay whole
        output = self.of_numbers(
            step, value, path, Binarize, threshold=float(step.threshold), dtype=dtype
        )
        return replace(output, dtype=dtype)

    def polynomial(self, step: Any, value: StepValue, path: tuple[str, ...]) -> StepValue:
        """PolynomialFeatures."""
        terms = tuple(
            step._combinations(
                step.n_features_in_, step._min_degree, step._max_degree, step.interaction_only,
                step.include_bias,
            )
        )  # fmt: skip
        output = self.of_numbers(step, value, path, Polynomial, terms=terms)
        return replace(output, width=len(terms))

    def projection(self, step: Any, value: StepValue, path: tuple[str, ...]) -> StepValue:
        """PCA and TruncatedSVD."""
        options: dict[str, Any] = {"components": step.components_}
        if value.is_wide and hasattr(step, "mean_"):
            raise UnknownStep("it is given a sparse matrix")
        if hasattr(step, "mean_"):
            options["offset"] = step.mean_.reshape(1, -1) @ step.components_.T
        if getattr(step, "whiten", False):
            divide = np.sqrt(step.explained_variance_)
            divide[divide < np.finfo(divide.dtype).eps] = np.finfo(divide.dtype).eps
            options["divide"] = divide
        output = self.of_numbers(step, value, path, Project, **options)
        return replace(output, width=len(step.components_))

    def selector(self, step: Any, value: StepValue, path: tuple[str, ...]) -> StepValue:
        """Selections of features."""
        picked = np.flatnonzero(step.get_support())
        if not len(picked):
            raise UnknownStep("it selects nothing")
        if value.is_boxed:
            raise UnknownStep("it is given objects")
        self.stays_float(value)
        output = self.of_numbers(step, value, path, Pick, columns=picked, demands_finite=True)
        if value.is_wide:
            output = replace(output, form="sparse", dtype=value.dtype, is_wide=True)
        return replace(output, width=len(picked))

    def imputer(self, step: Any, value: StepValue, path: tuple[str, ...]) -> StepValue:
        """SimpleImputer for NaN."""
        statistics = step.statistics_
        if not (isinstance(step.missing_values, float) and math.isnan(step.missing_values)):
            raise UnknownStep("something else than NaN is missing")
        if statistics.dtype.kind == "f" and np.isnan(statistics).any():
            raise UnknownStep("a column had no value in training")
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
                raise UnknownStep(f"it is given {dtype}")
        indicated = np.asarray(step.indicator_.features_) if step.add_indicator else None
        impute = Impute(inputs=(node,), way=path[0], statistics=statistics, indicated=indicated)
        width = len(statistics) + (0 if indicated is None else len(indicated))
        return StepValue(form="array", node=self.add(impute), width=width, dtype=dtype)

    def encoder_inputs(self, step: Any, value: StepValue, way: str) -> tuple[int, ...]:
        """The nodes that an encoder takes: one for each column of the frame, or one for all."""
        if value.form not in ("frame", "array") or value.is_boxed or step._infrequent_enabled:
            raise UnknownStep(f"it is given a {value.form}, or joins rare categories")
        _check_names(step, value)
        if value.node != -1:
            if any(categories.dtype != value.dtype for categories in step.categories_):
                raise UnknownStep(f"it is given an array of {value.dtype}")
            return (value.node,)
        nodes = []
        for name, categories in zip(value.names, step.categories_, strict=True):
            dtype = self._dtypes[name]
            if categories.dtype != (_OBJECT if _is_of_objects(dtype) else dtype):
                raise UnknownStep(
                    f"column {name!r} is {dtype}, and its categories are {categories.dtype}"
                )
            nodes.append(self.columns((name,), categories.dtype, way))
        return tuple(nodes)

    def one_hot(self, step: Any, value: StepValue, path: tuple[str, ...]) -> StepValue:
        """OneHotEncoder."""
        if step.handle_unknown not in ("error", "ignore", "infrequent_if_exist"):
            raise UnknownStep("it warns")
        dropped = step.drop_idx_
        node = OneHot(
            inputs=self.encoder_inputs(step, value, path[0]),
            way=path[0],
            categories=tuple(step.categories_),
            dropped=(None,) * len(step.categories_) if dropped is None else tuple(dropped),
            ignores_unknown=step.handle_unknown != "error",
            dtype=np.dtype(step.dtype),
        )
        return self.one_hot_value(node, step.sparse_output)

    def one_hot_value(self, node: OneHot, is_sparse: bool) -> StepValue:
        """Add a node that scikit-learn may have as a sparse matrix."""
        if node.width > MOST_WIDE:
            raise UnknownStep(f"it has {node.width} columns")
        form = "sparse" if is_sparse else "array"
        return StepValue(form=form, node=self.add(node), width=node.width, dtype=node.dtype)

    def ordinal(self, step: Any, value: StepValue, path: tuple[str, ...]) -> StepValue:
        """OrdinalEncoder."""
        ordinal = Ordinal(
            inputs=self.encoder_inputs(step, value, path[0]),
            way=path[0],
            categories=tuple(step.categories_),
            missing=tuple(map(step._missing_indices.get, range(len(step.categories_)))),
            missing_value=step.encoded_missing_value,
            unknown_value=(
                step.unknown_value if step.handle_unknown == "use_encoded_value" else None
            ),
            dtype=np.dtype(step.dtype),
        )
        width = len(ordinal.categories)
        return StepValue(form="array", node=self.add(ordinal), width=width, dtype=ordinal.dtype)

    def binned(self, step: Any, value: StepValue, path: tuple[str, ...]) -> StepValue:
        """KBinsDiscretizer."""
        if step.dtype not in (None, np.float64):
            raise UnknownStep("it gives floats of 32 bits")
        inner_edges = tuple(edges[1:-1] for edges in step.bin_edges_)
        bins = self.of_numbers(step, value, path, Bins, edges=inner_edges)
        if step.encode == "ordinal":
            return bins
        node = OneHot(
            inputs=(bins.node,),
            way=path[0],
            categories=tuple(np.arange(len(edges) + 1, dtype=_FLOAT) for edges in inner_edges),
            dropped=(None,) * len(inner_edges),
            ignores_unknown=False,
            dtype=_FLOAT,
        )
        return self.one_hot_value(node, step.encode == "onehot")

    def word_counts(self, step: Any, value: StepValue, path: tuple[str, ...]) -> StepValue:
        """CountVectorizer, without functions of somebody's own."""
        if any(map(callable, (step.analyzer, step.preprocessor, step.tokenizer))):
            raise UnknownStep("it calls a function")
        if step.input != "content" or not hasattr(step, "vocabulary_"):
            raise UnknownStep("it reads files, or has no vocabulary")
        if value.form == "unknown":
            node = value.node
        elif value.form not in ("series", "vector") or value.node != -1:
            raise UnknownStep(f"it is given a {value.form}")
        elif not _is_of_objects(self._dtypes[value.names[0]]):
            raise UnknownStep("its column is no text")
        else:
            node = self.columns(value.names, _OBJECT, path[0])
        is_of_words = step.analyzer == "word" and tuple(step.ngram_range) == (1, 1)
        width = len(step.vocabulary_)
        counts = WordCounts(
            inputs=(node,),
            way=path[0],
            vocabulary=step.vocabulary_,
            width=width,
            analyze=step.build_analyzer(),
            pattern=step.token_pattern if is_of_words and step.token_pattern in WORDS else None,
            strips_accents=step.strip_accents is not None,
            is_lowercase=step.lowercase,
            stop_words=frozenset(step.get_stop_words() or ()),
            is_binary=step.binary,
            dtype=np.dtype(step.dtype),
        )
        return StepValue(
            form="sparse", node=self.add(counts), width=width, dtype=counts.dtype, is_wide=True
        )

    def tf_idf(self, step: Any, value: StepValue, path: tuple[str, ...]) -> StepValue:
        """TfidfVectorizer and TfidfTransformer."""
        if hasattr(step, "vocabulary_"):
            value, step = self.word_counts(step, value, path), step._tfidf
        if not value.is_wide or (value.dtype.kind not in "iu" and value.dtype != _FLOAT):
            raise UnknownStep(f"it is given a {value.form} of {value.dtype}")
        _check_names(step, value)
        node = TfIdf(
            inputs=(value.node,),
            way=path[0],
            weights=step.idf_ if step.use_idf else None,
            norm=step.norm,
            is_sublinear=step.sublinear_tf,
        )
        return replace(value, node=self.add(node), dtype=_FLOAT)


def _dtype_of(column: Column) -> Any:
    """The dtype of a column, in pandas."""
    if column.dtype == "category":
        return pd.CategoricalDtype(pd.Index(column.categories or (), dtype=column.categories_dtype))
    return pd.api.types.pandas_dtype(column.dtype)


def _are_numbers(dtypes: Sequence[Any], *, kinds: str = "iufb") -> bool:
    """Whether columns are numpy's, of these kinds."""
    return all(isinstance(dtype, np.dtype) and dtype.kind in kinds for dtype in dtypes)


def _is_of_objects(dtype: Any) -> bool:
    """Whether numpy makes Python objects of a column."""
    if isinstance(dtype, pd.CategoricalDtype):
        dtype = dtype.categories.dtype
    return dtype == _OBJECT or isinstance(dtype, pd.StringDtype)


def _check_names(step: Any, value: StepValue) -> None:
    """Demand the columns that a step was fitted with: scikit-learn warns of others, or refuses them."""
    fitted = getattr(step, "feature_names_in_", None)
    names = value.names if value.form == "frame" else None
    if names != (None if fitted is None else tuple(fitted)):
        raise UnknownStep("it was fitted with other columns than it is given")
    if value.width is not None and value.width != getattr(step, "n_features_in_", value.width):
        raise UnknownStep("it was fitted with another number of columns than it is given")


_Step = Callable[[TransformerReader, Any, StepValue, tuple[str, ...]], StepValue]
_STEPS: dict[str, _Step] = {
    "sklearn.compose._column_transformer.ColumnTransformer": TransformerReader.column_transformer,
    "sklearn.decomposition._pca.PCA": TransformerReader.projection,
    "sklearn.decomposition._truncated_svd.TruncatedSVD": TransformerReader.projection,
    "sklearn.feature_selection._from_model.SelectFromModel": TransformerReader.selector,
    "sklearn.feature_selection._univariate_selection.SelectKBest": TransformerReader.selector,
    "sklearn.feature_selection._univariate_selection.SelectPercentile": TransformerReader.selector,
    "sklearn.feature_selection._variance_threshold.VarianceThreshold": TransformerReader.selector,
    "sklearn.feature_extraction.text.CountVectorizer": TransformerReader.word_counts,
    "sklearn.feature_extraction.text.TfidfTransformer": TransformerReader.tf_idf,
    "sklearn.feature_extraction.text.TfidfVectorizer": TransformerReader.tf_idf,
    "sklearn.impute._base.SimpleImputer": TransformerReader.imputer,
    "sklearn.pipeline.FeatureUnion": TransformerReader.feature_union,
    "sklearn.pipeline.Pipeline": TransformerReader.pipeline,
    "sklearn.preprocessing._data.Binarizer": TransformerReader.binarizer,
    "sklearn.preprocessing._data.MaxAbsScaler": TransformerReader.scaler,
    "sklearn.preprocessing._data.MinMaxScaler": TransformerReader.scaler,
    "sklearn.preprocessing._data.RobustScaler": TransformerReader.scaler,
    "sklearn.preprocessing._data.StandardScaler": TransformerReader.scaler,
    "sklearn.preprocessing._discretization.KBinsDiscretizer": TransformerReader.binned,
    "sklearn.preprocessing._encoders.OneHotEncoder": TransformerReader.one_hot,
    "sklearn.preprocessing._encoders.OrdinalEncoder": TransformerReader.ordinal,
    "sklearn.preprocessing._function_transformer.FunctionTransformer": TransformerReader.function,
    "sklearn.preprocessing._polynomial.PolynomialFeatures": TransformerReader.polynomial,
    "sklearn_pandas.dataframe_mapper.DataFrameMapper": TransformerReader.data_frame_mapper,
    "sklearn_pandas.pipeline.TransformerPipeline": TransformerReader.pipeline,
}
_CONTAINERS = (
    TransformerReader.column_transformer,
    TransformerReader.feature_union,
    TransformerReader.pipeline,
    TransformerReader.data_frame_mapper,
)
