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

    Nearly all that it takes to score a lone record is to make its frame; a plan does without.
    """

    __slots__ = ("_arrays", "_count", "_frame", "_source", "names")

    def __init__(self, names: tuple[str, ...], arrays: Sequence[Any], count: int) -> None:
        """`arrays` are those of the columns: (count,) each, of numpy, of pandas, a series, or `Texts`."""
        self.names = names
        self._arrays, self._count = arrays, count
        self._frame: pd.DataFrame | None = None
        self._source: CheckedRows | None = None
        """Whose rows they are, of a call that may write into their frame."""

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
        """All of them as a frame: the same one whenever it is asked for."""
        if self._frame is None:
            if self._source is None:
                self._frame = frame_of(self.names, self._arrays, self._count)
                self._arrays = ()  # not twice in memory
            else:
                self._frame = self._source.own_frame()
        return self._frame

    @property
    def index(self) -> pd.Index[Any]:
        """That of the frame."""
        if self._frame is not None:
            return self._frame.index
        if self._source is not None and not self._arrays:
            return self._source.index
        return _row_index(self._count).view()

    def own_frame(self) -> pd.DataFrame:
        """The frame for somebody who may write into it: the rows may have to be scored once more."""
        return self.frame.copy(deep=_WRITES_THROUGH)

    def for_one_call(self) -> CheckedRows:
        """The same rows for a call whose steps may write into their frame, and read there what others have written."""
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
        """Some columns as pandas selects them from the frame, a series by a name, for somebody who may write into it."""
        if self._frame is not None or _WRITES_THROUGH or not self._arrays:
            return self.frame.loc[:, names if isinstance(names, str) else np.array(names, object)]
        if not isinstance(names, str):
            arrays = [self._arrays[self.names.index(name)] for name in names]
            return frame_of(names, arrays, self._count)
        array = whole(self._arrays[self.names.index(names)])
        index = _row_index(self._count).view()
        return pd.Series(array, index=index, dtype=array.dtype, name=names, copy=True)

    def take(self, indices: npt.NDArray[np.intp]) -> CheckedRows:
        """Some of the rows, as a frame of their own has them."""
        if self._frame is not None:
            return CheckedRows.of(self._frame.iloc[indices].reset_index(drop=True))
        return CheckedRows(self.names, taken(self._arrays, indices), len(indices))


class Texts:
    """Text as it was sent, None where it is missing: the array of training once somebody asks for it."""

    __slots__ = ("_make", "_missing", "_values", "_whole", "dtype")

    def __init__(
        self, values: Sequence[str | None], dtype: Any, missing: Any, make: Callable[[], Any]
    ) -> None:
        """`missing` is what numpy makes of a missing value of the array that `make` makes, whose type is `dtype`."""
        self._values, self.dtype, self._missing, self._make = values, dtype, missing, make
        self._whole: Any = None

    def __len__(self) -> int:
        return len(self._values)

    def __array__(self, dtype: Any = None, copy: Any = None) -> npt.NDArray[Any]:
        """The same objects as numpy makes of the array of training."""
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
    """The array that a column had in training, also of values that have not become one yet."""
    return array.whole() if isinstance(array, Texts) else array


def taken(arrays: Sequence[Any], indices: npt.NDArray[np.intp]) -> list[Any]:
    """Some values of each array, in arrays of their own."""
    found = [whole(array).take(indices) for array in arrays]
    return [one.reset_index(drop=True) if isinstance(one, pd.Series) else one for one in found]


def frame_of(names: tuple[str, ...], arrays: Sequence[Any], count: int) -> pd.DataFrame:
    """A frame of its columns' arrays, in memory that a pipeline may write to.

    Columns of a type become one block of memory, as they were when the training frame was read: numbers are added
    up in the same order then, to the last bit. Frames of the same columns share an index of their names: pandas
    need neither make it for each batch nor hash the names again when the pipeline selects some. They are views of
    it, which have their own names, should a pipeline give them some.
    """
    columns, rows = _column_index(names).view(), _row_index(count).view()
    found = [whole(array) for array in arrays]
    kinds = [_block_of(place, array) for place, array in enumerate(found)]
    if create_dataframe_from_blocks is None or not kinds or None in kinds:
        frame = pd.DataFrame(dict(enumerate(found)), index=rows, copy=True)
        frame.columns = columns
        return frame
    blocks = []
    for kind in dict.fromkeys(kinds):
        places = [place for place, other in enumerate(kinds) if other == kind]
        if isinstance(kind, np.dtype):
            block = np.stack([np.asarray(found[place]) for place in places])
        else:
            block = found[places[0]].copy()
        blocks.append((block, np.array(places)))
    return create_dataframe_from_blocks(blocks, index=rows, columns=columns)


def _block_of(place: int, array: Any) -> Any:
    """What columns have in common that are one block of memory in pandas; None: pandas is to find out."""
    if isinstance(array, np.ndarray | pd.Series):
        return array.dtype if array.dtype.kind in "iufbO" else None
    is_by_itself = isinstance(
        array, pd.Categorical | pd.arrays.StringArray | pd.arrays.ArrowStringArray
    )
    return place if is_by_itself else None
