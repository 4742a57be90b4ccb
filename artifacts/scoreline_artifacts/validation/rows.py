"""Rows that passed the check: their columns, of which a frame is made where somebody asks for one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

try:
    from pandas.api.internals import create_dataframe_from_blocks
except ImportError:  # before pandas 3
    create_dataframe_from_blocks = None

_WRITES_THROUGH = int(pd.__version__.partition(".")[0]) < 3
"""Before pandas 3, writing into a shallow copy of a frame, or into one of its columns, changes the frame."""
_COLUMN_ARRAY = getattr(pd.DataFrame, "_get_column_array", None)
"""A column's array in a microsecond, where `frame.iloc[:, index].array` takes twenty; absent: the latter."""

_column_index = lru_cache(maxsize=256)(pd.Index)
_row_index = lru_cache(maxsize=128)(pd.RangeIndex)


class CheckedRows:
    """Rows of the columns and types of training.

    Making the frame takes nearly all of the time of scoring a single record; a plan needs none.
    """

    __slots__ = ("_arrays", "_count", "_frame", "_source", "names")

    def __init__(self, names: tuple[str, ...], arrays: Sequence[Any], count: int) -> None:
        """`arrays` has one of `count` values for each column: numpy's, pandas', a series, or `Texts`."""
        self.names = names
        self._arrays, self._count = arrays, count
        self._frame: pd.DataFrame | None = None
        self._source: CheckedRows | None = None
        """The rows that `for_one_call` made these from."""

    @classmethod
    def of(cls, frame: pd.DataFrame | CheckedRows) -> CheckedRows:
        """The rows of a frame."""
        if isinstance(frame, CheckedRows):
            return frame
        rows = cls(tuple(frame.columns), (), len(frame))
        rows._frame = frame
        return rows

    def __len__(self) -> int:
        return self._count

    @property
    def frame(self) -> pd.DataFrame:
        """The rows as a frame: the same object each time."""
        if self._frame is None:
            if self._source is None:
                self._frame = frame_of(self.names, self._arrays, self._count)
                self._arrays = ()  # not twice in memory
            else:
                self._frame = self._source.own_frame()
        return self._frame

    @property
    def index(self) -> pd.Index[Any]:
        """The index of the frame."""
        if self._frame is not None:
            return self._frame.index
        if self._source is not None and not self._arrays:
            return self._source.index
        return _row_index(self._count).view()

    def own_frame(self) -> pd.DataFrame:
        """A copy of the frame for a caller that may write into it: the rows may have to be scored once more."""
        return self.frame.copy(deep=_WRITES_THROUGH)

    def for_one_call(self) -> CheckedRows:
        """The same rows for one call, whose steps share a frame of their own: they may write into it and read it."""
        rows = CheckedRows(self.names, self._arrays, self._count)
        rows._source = self
        return rows

    def column(self, position: int) -> Any:
        """The array of a column, of a pandas type if it has one; not to be written into."""
        if self._frame is None and self._source is not None and not self._arrays:
            return self._source.column(position)
        if self._frame is None:
            array = self._arrays[position]
            return array.to_numpy() if isinstance(array, pd.Series) else array
        if _COLUMN_ARRAY is None:
            return self._frame.iloc[:, position].array
        return _COLUMN_ARRAY(self._frame, position)

    def selected(self, names: tuple[str, ...] | str) -> Any:
        """Some columns as pandas selects them from the frame, a series by a name; the caller may write into them."""
        if self._frame is not None or _WRITES_THROUGH or not self._arrays:
            return self.frame.loc[:, names if isinstance(names, str) else np.array(names, object)]
        if not isinstance(names, str):
            arrays = [self._arrays[self.names.index(name)] for name in names]
            return frame_of(names, arrays, self._count)
        array = whole(self._arrays[self.names.index(names)])
        index = _row_index(self._count).view()
        return pd.Series(array, index=index, dtype=array.dtype, name=names, copy=True)

    def take(self, indices: npt.NDArray[np.intp]) -> CheckedRows:
        """Some of the rows, with an index that begins at 0."""
        if self._frame is not None:
            return CheckedRows.of(self._frame.iloc[indices].reset_index(drop=True))
        return CheckedRows(self.names, taken(self._arrays, indices), len(indices))


class Texts:
    """Text as it was sent, None where it is missing; the array of training is made on demand."""

    __slots__ = ("_make", "_missing", "_values", "_whole", "dtype")

    def __init__(
        self, values: Sequence[str | None], dtype: Any, missing: Any, make: Callable[[], Any]
    ) -> None:
        """`make` makes the array of training, of type `dtype`; numpy turns a missing value of it into `missing`."""
        self._values, self.dtype, self._missing, self._make = values, dtype, missing, make
        self._whole: Any = None

    def __len__(self) -> int:
        return len(self._values)

    def __array__(self, dtype: Any = None, copy: Any = None) -> npt.NDArray[Any]:
        """The same objects that numpy makes of the array of training."""
        array = np.empty(len(self._values), object)
        array[:] = self._values
        if None in self._values and self._missing is not None:
            array[[value is None for value in self._values]] = self._missing
        return array

    def whole(self) -> Any:
        """The array of training."""
        if self._whole is None:
            self._whole = self._make()
        return self._whole


def whole(array: Any) -> Any:
    """The array that a column had in training; `Texts` make it now."""
    return array.whole() if isinstance(array, Texts) else array


def taken(arrays: Sequence[Any], indices: npt.NDArray[np.intp]) -> list[Any]:
    """Some values of each array, in arrays of their own."""
    selected = [whole(array).take(indices) for array in arrays]
    return [
        array.reset_index(drop=True) if isinstance(array, pd.Series) else array
        for array in selected
    ]


def frame_of(names: tuple[str, ...], arrays: Sequence[Any], count: int) -> pd.DataFrame:
    """A frame of its columns' arrays, in memory that a pipeline may write to.

    Columns of a type become one block of memory, as when the training frame was read: numbers are then added up in
    the same order, to the last bit. Frames of the same columns share an index of their names: pandas need neither
    make it for each batch nor hash the names again when the pipeline selects some. Each frame has a view of that
    index: a name that a pipeline gives to the view concerns no other frame.
    """
    columns, rows = _column_index(names).view(), _row_index(count).view()
    arrays = [whole(array) for array in arrays]
    keys = [_block_key(position, array) for position, array in enumerate(arrays)]
    if create_dataframe_from_blocks is None or not keys or None in keys:
        frame = pd.DataFrame(dict(enumerate(arrays)), index=rows, copy=True)
        frame.columns = columns
        return frame
    blocks = []
    for key in dict.fromkeys(keys):
        positions = [position for position, other in enumerate(keys) if other == key]
        if isinstance(key, np.dtype):
            block = np.stack([np.asarray(arrays[position]) for position in positions])
        else:
            block = arrays[positions[0]].copy()
        blocks.append((block, np.array(positions)))
    return create_dataframe_from_blocks(blocks, index=rows, columns=columns)


def _block_key(position: int, array: Any) -> Any:
    """A key that the columns of one block of memory in pandas share; None if pandas has to make the blocks."""
    if isinstance(array, np.ndarray | pd.Series):
        return array.dtype if array.dtype.kind in "iufbO" else None
    is_by_itself = isinstance(
        array, pd.Categorical | pd.arrays.StringArray | pd.arrays.ArrowStringArray
    )
    return position if is_by_itself else None
