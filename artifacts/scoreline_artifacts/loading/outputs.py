"""What a fitted pipeline answers with: its outputs, their names, types and classes, and how exactly."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from scoreline_artifacts import Outputs, UnsuitableData
from scoreline_artifacts.loading.one_call import ClassFrom, class_from
from scoreline_artifacts.loading.version import (
    is_by_output,
    outputs_of,
    probability_rows,
    usable_values,
    value_rows,
)
from scoreline_artifacts.manifest import OutputType, PipelineOutput
from scoreline_artifacts.validation import shown

TOLERANCE = 1e-9
"""Relative and absolute difference of two answers that rounding explains."""
_COARSER = {4: 1e-5, 2: 1e-2}
"""The same, by the size in bytes of the shortest float among inputs and answers, where that is less than 8."""


@dataclass(frozen=True, slots=True)
class FoundOutputs:
    """How a pipeline answers."""

    outputs: Outputs
    tolerance: float
    """Relative and absolute difference that rounding explains, by the types of its numbers."""


def find_outputs(pipeline: Any, frame: pd.DataFrame, labels: Any = None) -> FoundOutputs:
    """Ask a pipeline about some rows, and see what it answers with.

    `labels` are those of training: where they are a frame, its columns name the outputs of `predict`. Those
    of `transform` are named by the frame that it returns, or by `get_feature_names_out`.

    Raises:
        UnsuitableData: it answers with what cannot be sent; the message says for which record.
        ModelOutputError: its answers are not one row for each row.
        Exception: whatever the pipeline raises.
    """
    declared = outputs_of(pipeline)
    method, count = declared.method, len(frame)
    answer = getattr(pipeline, method)(frame.copy())
    values, unusable = usable_values(value_rows(answer, count, method), [])
    if unusable:
        row, reason = min(unusable.items())
        raise UnsuitableData(
            f"for the training row {shown(frame.iloc[row].to_dict())} {reason}; an answer must be text, "
            "a boolean or a finite number, or several of these, of one type for all records"
        )
    columns = [values] if values.ndim == 1 else list(values.T)
    names = _names(pipeline, answer, labels, len(columns))
    each = []
    for name, column in zip(names, columns, strict=True):
        is_text, is_boolean = isinstance(column[0], str), isinstance(column[0], bool | np.bool_)
        kind = OutputType.BOOLEAN if is_boolean else OutputType.NUMBER
        each.append(PipelineOutput(name=name, type=OutputType.TEXT if is_text else kind))
    outputs = Outputs(method=method, each=each)
    probabilities: Any = None
    if method == "predict" and hasattr(pipeline, "predict_proba"):
        try:
            probabilities = pipeline.predict_proba(frame.copy())
        # A class of the project's may have the method and not what it needs; a classifier's must work.
        except Exception:
            if declared.classes is not None:
                raise
        else:
            outputs = _with_classes(pipeline, outputs, probabilities, count)
    all_columns = [*outputs.prediction_columns, *outputs.probability_columns]
    if len(set(all_columns)) < len(all_columns):
        # Class `c` of `a_b` and class `b_c` of `a` would have columns of the same name.
        numbered = [replace(output, name=index) for index, output in enumerate(outputs.each or ())]
        outputs = replace(outputs, each=numbered)
    # The types of all floating-point numbers that go in or come out, numpy's for those of pandas.
    dtypes = list(frame.dtypes)
    tables = probabilities if is_by_output(probabilities) else [probabilities]
    for table in (answer, *tables):
        is_frame = isinstance(table, pd.DataFrame)
        dtypes += list(table.dtypes) if is_frame else [getattr(table, "dtype", None)]
    plain = [getattr(dtype, "numpy_dtype", dtype) for dtype in dtypes]
    sizes = [dtype.itemsize for dtype in plain if isinstance(dtype, np.dtype) and dtype.kind == "f"]
    return FoundOutputs(outputs, _COARSER.get(min(sizes, default=8), TOLERANCE))


def _names(pipeline: Any, answer: Any, labels: Any, count: int) -> Iterable[Any]:
    """The outputs' names: text, or indexes where there are none that tell them apart."""
    if count == 1:
        return [None]
    names: list[Any] = []
    if isinstance(answer, pd.DataFrame):
        names = list(answer.columns)
    elif hasattr(pipeline, "predict"):
        names = list(getattr(labels, "columns", ()))
    elif hasattr(pipeline, "get_feature_names_out"):
        try:
            names = list(pipeline.get_feature_names_out())
        # Steps of one's own often do not know them, and each says so in its own way.
        except Exception:  # noqa: BLE001
            names = []
    are_texts = all(isinstance(name, str) for name in names)
    return map(str, names) if are_texts and len(set(map(str, names))) == count else range(count)


def _with_classes(pipeline: Any, outputs: Outputs, probabilities: Any, count: int) -> Outputs:
    """The outputs with the classes that `predict_proba` gives probabilities of."""
    width = probability_rows(probabilities, count).shape[1]
    classes, each = getattr(pipeline, "classes_", None), outputs.each or []
    if is_by_output(probabilities):
        widths = [np.shape(table)[1] for table in probabilities]
        by_output = classes if isinstance(classes, list | tuple) else [None] * len(widths)
        if len(widths) == len(by_output) == len(each):
            labels = [_labels(*pair) for pair in zip(by_output, widths, strict=True)]
            if len(each) == 1:
                return replace(outputs, classes=labels[0])
            pairs = zip(each, labels, strict=True)
            return replace(outputs, each=[replace(output, classes=own) for output, own in pairs])
    elif len(each) == 1:
        is_known = class_from(pipeline) is not ClassFrom.PREDICT
        value_from = "probabilities" if is_known else "predict"
        return replace(outputs, classes=_labels(classes, width), value_from=value_from)
    elif width == len(each):
        # Several labels may apply to a record: one probability each.
        return replace(outputs, classes=[output.name for output in each])
    raise UnsuitableData(
        f"predict gives {len(each)} values for a record, and predict_proba {width} probabilities, which do "
        "not belong to them one by one. Let predict_proba return a column for each class or label, or, "
        "for several outputs, a list with such a table for each"
    )


def _labels(classes: Any, count: int) -> list[Any]:
    """Names of classes: those that the pipeline knows, else their indexes, as for the components of a mixture."""
    if classes is None:
        return list(range(count))
    labels, unusable = usable_values(np.asarray(classes), [])
    if labels.shape != (count,) or unusable:
        raise UnsuitableData(
            f"predict_proba gives {count} probabilities, and classes_ is {shown(classes)}; a name is needed "
            "for each: text, a boolean or a finite number, all of one type"
        )
    names: list[Any] = labels.tolist()
    return names
