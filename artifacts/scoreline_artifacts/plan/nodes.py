"""The steps of a plan: arrays in, an array out, with the numpy operations of scikit-learn in its order and without its checks.

A node that may meet rows which scikit-learn would refuse looks for them and raises `Unplanned`: the pipeline is asked
then, and says what is wrong in its own words. All that a node knows stands in public fields, for those that write
a plan down in another language.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

Array: TypeAlias = npt.NDArray[Any]
MOST_WIDE = 2000
"""Columns that a sparse matrix may have to be made dense."""


class Unplanned(Exception):
    """Raised when a plan cannot tell what the pipeline answers: the pipeline is to be asked."""


def demand_finite(array: Any, *, but_nan: bool = False) -> None:
    """Check the numbers that a step is given, also in a sparse matrix, as scikit-learn does.

    Raises:
        Unplanned: one of them is infinite or, unless `but_nan`, NaN.
    """
    if hasattr(array, "toarray"):
        array = array.data
    if np.isinf(array).any() if but_nan else not np.isfinite(array).all():
        raise Unplanned("a step is given infinity or NaN")


@dataclass(frozen=True, kw_only=True)
class Node:
    """A step of a plan."""

    inputs: tuple[int, ...]
    """The nodes, by index, whose values it takes; 0 stands for the `CheckedRows` that are scored."""
    way: str
    """Where the step stands in the pipeline, for people."""

    def run(self, values: Sequence[Any]) -> Any:
        """Its value, (rows, width), out of those of the nodes before it.

        Raises:
            Unplanned: scikit-learn would refuse a row, or nobody knows what it would do.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Selected(Node):
    """Columns of the frame as pandas gives them, for steps that are called: a frame, a series, or their values."""

    names: tuple[str, ...] | str | None
    """None: the frame itself; text: a series."""
    as_values: bool = False

    def run(self, values: Sequence[Any]) -> Any:
        """A DataFrame or Series, or, `as_values`, its array."""
        rows = values[0]
        selection = rows.frame if self.names is None else rows.selected(self.names)
        return selection.values if self.as_values else selection


@dataclass(frozen=True, kw_only=True)
class Columns(Node):
    """Columns of the frame as one array."""

    names: tuple[str, ...]
    positions: tuple[int, ...]
    """Where they are in the frame."""
    dtypes: tuple[Any, ...]
    """Their dtypes in pandas, as in training."""
    dtype: np.dtype[Any]
    """Of the array."""

    def run(self, values: Sequence[Any]) -> Array:
        """(rows, columns) of `dtype`."""
        rows = values[0]
        array = np.empty((len(self.positions), len(rows)), self.dtype)
        for index, (position, dtype) in enumerate(zip(self.positions, self.dtypes, strict=True)):
            column = rows.column(position)
            # Categories need not be compared: every value is looked up.
            if column.dtype != dtype and not isinstance(dtype, pd.CategoricalDtype):
                raise Unplanned(f"column {self.names[index]!r} is {column.dtype}, not {dtype}")
            array[index] = (
                column if isinstance(column, np.ndarray) else np.asarray(column, self.dtype)
            )
        return array.T


@dataclass(frozen=True, kw_only=True)
class Handed(Node):
    """An array of the plan in the form in which scikit-learn would hand it to a step that is called."""

    form: str
    """`frame`, `array`, `vector` or `sparse`."""
    names: tuple[str, ...] = ()
    """The columns of a frame."""

    def run(self, values: Sequence[Any]) -> Any:
        """A DataFrame, an array, of one dimension or two, or a sparse matrix."""
        array = values[self.inputs[0]]
        # A step before it may have been given infinity, and would have refused it.
        if array.dtype.kind == "f":
            demand_finite(array, but_nan=True)
        if self.form == "array":
            return array
        if self.form == "frame":
            index = values[0].index
            return pd.DataFrame(array, columns=list(self.names), index=index, copy=True)
        if self.form == "vector":
            return array[:, 0]
        from scipy.sparse import csr_matrix

        return csr_matrix(array)


@dataclass(frozen=True, kw_only=True)
class Given(Node):
    """The output of a called step as input of a step that is not called, checked as scikit-learn does."""

    names: tuple[str, ...] | None = None
    """The columns of a frame that the next step was fitted with; None: it was fitted with an array."""
    width: int | None = None
    takes_sparse: bool = False
    is_joined: bool = False
    """Whether the array is put beside others: then nobody looks at names, and sparse values become dense."""
    may_be_flat: bool = False
    """Whether one value for each row is a column."""

    def run(self, values: Sequence[Any]) -> Any:
        """(rows, width) numbers, float64 unless `is_joined`; a sparse matrix if it is one and taken."""
        value, count = values[self.inputs[0]], len(values[0])
        names = None
        if isinstance(value, pd.DataFrame):
            names = tuple(value.columns)
            if not all(isinstance(dtype, np.dtype) for dtype in value.dtypes):
                raise Unplanned("a step gave a frame of other columns than numpy's")
            value = value.to_numpy()
        elif (
            self.may_be_flat
            and getattr(value, "ndim", 0) == 1
            and isinstance(value.dtype, np.dtype)
        ):
            value = np.asarray(value)[:, None]
        elif hasattr(value, "toarray"):
            if self.is_joined and value.shape[1] <= MOST_WIDE:
                value = value.toarray()
            elif not self.takes_sparse:
                raise Unplanned("a step gave a sparse matrix")
        if not hasattr(value, "dtype") or value.ndim != 2 or value.shape[0] != count:
            raise Unplanned("a step gave no table with a row for each row")
        is_plain = value.dtype == np.float64 or value.dtype.kind in "iub"
        is_plain |= self.is_joined and value.dtype == np.float32
        if not is_plain or (self.width is not None and value.shape[1] != self.width):
            raise Unplanned(f"a step gave {value.dtype} of shape {value.shape}")
        if self.is_joined:
            return value
        if names != self.names:
            raise Unplanned("a step gave other columns than the next one was fitted with")
        return value.astype(np.float64, copy=False)


@dataclass(frozen=True, kw_only=True)
class Ufunc(Node):
    """A function of numpy on each number."""

    name: str
    """Its name in numpy."""
    function: np.ufunc = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "function", getattr(np, self.name))

    def run(self, values: Sequence[Any]) -> Array:
        """(rows, width) float64."""
        array = values[self.inputs[0]]
        # A step before it may have been given infinity, and would have refused it.
        demand_finite(array, but_nan=True)
        return np.asarray(self.function(array))


@dataclass(frozen=True, kw_only=True)
class Scale(Node):
    """Arithmetic with a number for each column, or for all: what is not None, in the order of the fields."""

    multiply: Array | float | None = None
    add: Array | None = None
    subtract: Array | None = None
    divide: Array | None = None
    clip: tuple[float, float] | None = None

    def run(self, values: Sequence[Any]) -> Any:
        """(rows, width) float64; of a sparse matrix, which only `multiply` takes, a sparse one."""
        array: Any = values[self.inputs[0]]
        is_own = False  # whether the array is this step's, and may be written into
        if self.multiply is not None:
            array, is_own = array * self.multiply, True
        for operation, operand in (
            (np.add, self.add),
            (np.subtract, self.subtract),
            (np.divide, self.divide),
        ):
            if operand is not None:
                array, is_own = operation(array, operand, out=array if is_own else None), True
        if self.clip is not None:
            demand_finite(array, but_nan=True)
            array = np.clip(array, *self.clip, out=array if is_own else None)
        return array


@dataclass(frozen=True, kw_only=True)
class Impute(Node):
    """A value of training for each missing one; NaN is missing."""

    statistics: Array
    """(width,) What is put in, by column."""
    indicated: Array | None = None
    """The columns of which 0 or 1 for "was missing" stands behind the others."""

    def run(self, values: Sequence[Any]) -> Array:
        """(rows, width + indicated), float64 or objects."""
        array = values[self.inputs[0]]
        if array.dtype == object:
            flags = [value != value for value in array.ravel().tolist()]
            missing = np.array(flags, bool).reshape(array.shape)
        else:
            demand_finite(array, but_nan=True)
            missing = np.isnan(array)
        if missing.any():
            array = np.where(missing, self.statistics, array)
        if self.indicated is None:
            return np.asarray(array)
        return np.concatenate([array, missing[:, self.indicated]], axis=1)


class _Coding:
    """What encoders share: the code of a value is its index among the categories of its column."""

    categories: tuple[Array, ...]
    inputs: tuple[int, ...]
    codes_by_value: tuple[dict[Any, int], ...]
    """Of each column; empty where its values are no objects."""

    def __post_init__(self) -> None:
        codes_by_value = tuple(
            {value: code for code, value in enumerate(categories.tolist()) if value == value}
            if categories.dtype == object
            else {}
            for categories in self.categories
        )
        object.__setattr__(self, "codes_by_value", codes_by_value)

    def columns(self, values: Sequence[Any]) -> Iterator[Array]:
        """(rows,) of each column."""
        for index in self.inputs:
            yield from values[index].T

    def codes(
        self, column: Array, categories: Array, code_of: dict[Any, int]
    ) -> npt.NDArray[np.intp]:
        """(rows,) The code of each value, -1 for one that training did not have.

        Raises:
            Unplanned: a value is of an unexpected kind.
        """
        if categories.dtype == object:
            if column.dtype != object:
                raise Unplanned(f"a column of objects is {column.dtype}")
            values = column.tolist()
            codes = [*map(code_of.get, values, repeat(-1))]
            if -1 in codes:
                has_nan = len(categories) > len(code_of)
                for row, code in enumerate(codes):
                    value = values[row]
                    if code == -1 and isinstance(value, float) and value != value:
                        codes[row] = len(categories) - 1 if has_nan else -1
                    elif code == -1 and value is not None and not isinstance(value, str):
                        raise Unplanned(f"an encoder is given a {type(value).__name__}")
            return np.array(codes, np.intp)
        if column.dtype != categories.dtype:
            raise Unplanned(f"a column of {categories.dtype} is {column.dtype}")
        if column.dtype.kind == "f":
            demand_finite(column, but_nan=True)
        indexes = np.searchsorted(categories, column)
        indexes[indexes == len(categories)] = 0
        same = categories[indexes] == column
        if categories.dtype.kind == "f" and np.isnan(categories[-1]):
            same |= np.isnan(column)
        return np.where(same, indexes, -1)


@dataclass(frozen=True, kw_only=True)
class OneHot(_Coding, Node):
    """A column for each category, 1 where a value is it. Inputs are one node for all columns, or one for each."""

    categories: tuple[Array, ...]
    """Of each column, in order; NaN, if it is one, is the last."""
    dropped: tuple[int | None, ...]
    """The code of the category of each column that has no column of its own."""
    ignores_unknown: bool
    """Whether a value that training did not have is all zeros; else scikit-learn refuses it."""
    dtype: np.dtype[Any]

    @property
    def width(self) -> int:
        """The number of columns."""
        return sum(map(len, self.categories)) - sum(code is not None for code in self.dropped)

    def run(self, values: Sequence[Any]) -> Array:
        """(rows, width) of `dtype`."""
        rows = np.arange(len(values[0]))
        array = np.zeros((len(rows), self.width), self.dtype)
        start = 0
        for column, categories, code_of, dropped in zip(
            self.columns(values), self.categories, self.codes_by_value, self.dropped, strict=True
        ):
            codes = self.codes(column, categories, code_of)
            has_one = codes >= 0
            # With a dropped category, scikit-learn warns of an unknown one as well.
            if not has_one.all() and (not self.ignores_unknown or dropped is not None):
                raise Unplanned("an encoder is given a value that training did not have")
            if dropped is not None:
                has_one = codes != dropped
                codes = codes - (codes > dropped)
            array[rows[has_one], start + codes[has_one]] = 1
            start += len(categories) - (dropped is not None)
        return array


@dataclass(frozen=True, kw_only=True)
class Ordinal(_Coding, Node):
    """The code of each value. Inputs as for OneHot."""

    categories: tuple[Array, ...]
    """Of each column, in order; NaN, if it is one, is the last."""
    missing: tuple[int | None, ...]
    """The code of NaN or None in each column."""
    missing_value: float
    """Stands for it."""
    unknown_value: float | None
    """Stands for a value that training did not have; None: scikit-learn refuses it."""
    dtype: np.dtype[Any]

    def run(self, values: Sequence[Any]) -> Array:
        """(rows, columns) of `dtype`."""
        array = np.empty((len(values[0]), len(self.categories)), self.dtype)
        encodings = zip(
            self.columns(values), self.categories, self.codes_by_value, self.missing, strict=True
        )
        for index, (column, categories, code_of, missing) in enumerate(encodings):
            codes = self.codes(column, categories, code_of)
            array[:, index] = codes
            if missing is not None:
                array[codes == missing, index] = self.missing_value
            if (codes < 0).any():
                if self.unknown_value is None:
                    raise Unplanned("an encoder is given a value that training did not have")
                array[codes < 0, index] = self.unknown_value
        return array


@dataclass(frozen=True, kw_only=True)
class Bins(Node):
    """The number of the bin that each number is in."""

    edges: tuple[Array, ...]
    """The edges between the bins of each column, without the outer two; a number on an edge is in the bin above."""

    def run(self, values: Sequence[Any]) -> Array:
        """(rows, width) float64."""
        array = values[self.inputs[0]]
        demand_finite(array)
        binned = np.empty(array.shape)
        for index, edges in enumerate(self.edges):
            binned[:, index] = np.searchsorted(edges, array[:, index], side="right")
        return binned


@dataclass(frozen=True, kw_only=True)
class Binarize(Node):
    """1 for each number above a threshold, else 0."""

    threshold: float
    dtype: np.dtype[Any] = np.dtype(np.float64)  # noqa: RUF009 - it never changes
    """Whole numbers stay whole numbers."""

    def run(self, values: Sequence[Any]) -> Array:
        """(rows, width) of `dtype`."""
        array = values[self.inputs[0]]
        demand_finite(array)
        return np.asarray((array > self.threshold).astype(self.dtype))


@dataclass(frozen=True, kw_only=True)
class Polynomial(Node):
    """Products of columns."""

    terms: tuple[tuple[int, ...], ...]
    """The columns of each product, in order; none: 1. They are multiplied from the last to the first."""

    def run(self, values: Sequence[Any]) -> Array:
        """(rows, terms) float64."""
        demand_finite(values[self.inputs[0]])
        columns = np.ascontiguousarray(values[self.inputs[0]].T)
        products: dict[tuple[int, ...], Array] = {(): np.ones(columns.shape[1])}
        array = np.empty((len(self.terms), columns.shape[1]))
        for index, term in enumerate(self.terms):
            for start in range(len(term) - 1, -1, -1):
                factors = term[start:]
                if factors not in products:
                    column = columns[factors[0]]
                    products[factors] = column * products[factors[1:]] if factors[1:] else column
            array[index] = products[term]
        return np.ascontiguousarray(array.T)


@dataclass(frozen=True, kw_only=True)
class Project(Node):
    """A product with a matrix, such as the principal components."""

    components: Array
    """(outputs, width)."""
    offset: Array | None = None
    """(1, outputs) Subtracted afterwards."""
    divide: Array | None = None
    """(outputs,) The divisor after that."""

    def run(self, values: Sequence[Any]) -> Array:
        """(rows, outputs) float64."""
        array: Array = values[self.inputs[0]]
        demand_finite(array)
        array = array @ self.components.T
        if self.offset is not None:
            array -= self.offset
        if self.divide is not None:
            array /= self.divide
        return array


@dataclass(frozen=True, kw_only=True)
class Pick(Node):
    """Some columns of an array."""

    columns: Array
    """(picked,) Their indexes."""
    demands_finite: bool = False
    """Whether NaN in a column that is not picked is refused."""

    def run(self, values: Sequence[Any]) -> Array:
        """(rows, picked)."""
        if self.demands_finite:
            demand_finite(values[self.inputs[0]])
        picked = values[self.inputs[0]][:, self.columns]
        return picked if hasattr(picked, "toarray") else np.asarray(picked)


@dataclass(frozen=True, kw_only=True)
class Concat(Node):
    """Arrays beside each other."""

    is_sparse: bool = False
    """Whether they become a sparse matrix; otherwise sparse ones among them become dense."""

    def run(self, values: Sequence[Any]) -> Any:
        """(rows, widths together)."""
        arrays = [values[index] for index in self.inputs]
        if not self.is_sparse:
            dense = [array.toarray() if hasattr(array, "toarray") else array for array in arrays]
            return np.concatenate(dense, axis=1)
        from scipy.sparse import hstack

        return hstack(arrays).tocsr()


@dataclass(frozen=True, kw_only=True)
class Opaque(Node):
    """A step that is called, since nothing is known of what it does."""

    transformer: Any
    """The live, fitted transformer."""

    def run(self, values: Sequence[Any]) -> Any:
        """Whatever it gives."""
        return self.transformer.transform(values[self.inputs[0]])
