"""The types that the publisher gives columns, where pandas has inferred others."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from scoreline_artifacts import ColumnType, UnsuitableData, golden
from scoreline_artifacts.loading.columns import ROWS_COMPARED
from scoreline_artifacts.loading.version import LoadedVersion

_DTYPES = {
    ColumnType.INTEGER: ("int64", "Int64"),
    ColumnType.NUMBER: ("float64", "Float64"),
    ColumnType.BOOLEAN: ("bool", "boolean"),
    ColumnType.STRING: ("object", "object"),
    ColumnType.CATEGORY: ("category", "category"),
}
"""The dtype of a declared type: where no value is missing or NaN stands for it, and where pandas.NA does."""


def as_declared(frame: pd.DataFrame, types: Mapping[str, str]) -> pd.DataFrame:
    """The frame, with the dtypes of the types that the publisher gives some columns.

    Raises:
        UnsuitableData: there is no such column or type, or the column's values are not of it.
    """
    dtypes: dict[str, str] = {}
    for name, text in types.items():
        if name not in frame.columns:
            raise UnsuitableData(
                f"schema= names {name!r}, which is no column of X_train: {list(frame.columns)[:20]}"
            )
        if text not in _DTYPES:
            raise UnsuitableData(
                f"schema= gives {name!r} the type {text!r}; expected one of {', '.join(_DTYPES)}"
            )
        has_na = hasattr(frame[name].dtype, "na_value")
        is_missing = text == ColumnType.INTEGER and bool(frame[name].isna().any())
        dtypes[name] = _DTYPES[ColumnType(text)][has_na or is_missing]
    try:
        converted = frame.astype(dtypes)
    except (TypeError, ValueError) as error:
        raise UnsuitableData(f"schema={dict(types)!r} does not fit X_train: {error}") from error
    for name in dtypes:
        before, after = frame[name].dropna(), converted[name].dropna()
        # A cast to whole numbers drops decimals, and one to booleans takes every value.
        if len(before) != len(after) or not (before.astype(object) == after.astype(object)).all():
            raise UnsuitableData(
                f"schema= gives {name!r} the type {types[name]!r}, but values of X_train are none"
            )
    return converted


def check_same_answers(
    version: LoadedVersion, original: pd.DataFrame, declared: pd.DataFrame, tolerance: float
) -> None:
    """Check that the pipeline answers training rows the same, whether they have their own types or the declared ones.

    Raises:
        UnsuitableData: it does not.
    """
    chosen = np.linspace(0, len(original) - 1, min(len(original), ROWS_COMPARED)).astype(int)
    try:
        want, got = (
            golden.rows_of([{}] * len(chosen), scores.values, scores.probabilities)
            for scores in (version.score(frame.iloc[chosen]) for frame in (original, declared))
        )
    # Whatever the pipeline raises: it cannot take the types that the publisher wants to permit.
    except Exception as error:
        raise UnsuitableData(
            f"the pipeline cannot score the types of schema=: {type(error).__name__}: {error}"
        ) from error
    for row, pair in zip(chosen, zip(want, got, strict=True), strict=True):
        if not golden.same_answer(*pair, tolerance):
            raise UnsuitableData(
                f"with the types of schema= the pipeline answers row {row} of X_train otherwise: "
                f"{pair[1].value!r} instead of {pair[0].value!r}. Fit it on a frame that has these types"
            )
