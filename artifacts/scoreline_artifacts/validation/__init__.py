"""Raw records to the frame that the pipeline was trained on, with one problem per bad record."""

from scoreline_artifacts.validation.anomalies import (
    describe_unusual,
    is_out_of_range,
    is_unseen,
    nearest_category,
    value_at,
)
from scoreline_artifacts.validation.arrays import (
    EXACT_IN_FLOAT,
    as_column,
    bounds_of,
    clock_of,
    pandas_type,
    type_beneath,
)
from scoreline_artifacts.validation.frames import (
    frame_of_arrays,
    frame_of_columns,
    frame_of_records,
    missing_column,
    renumbered,
)
from scoreline_artifacts.validation.problems import (
    NO_RULES,
    Checked,
    Finding,
    Odd,
    Problem,
    Rules,
    Unreadable,
    shown,
)
from scoreline_artifacts.validation.values import array_of, convert_value, converter_of

__all__ = [
    "EXACT_IN_FLOAT",
    "NO_RULES",
    "Checked",
    "Finding",
    "Odd",
    "Problem",
    "Rules",
    "Unreadable",
    "array_of",
    "as_column",
    "bounds_of",
    "clock_of",
    "convert_value",
    "converter_of",
    "describe_unusual",
    "frame_of_arrays",
    "frame_of_columns",
    "frame_of_records",
    "is_out_of_range",
    "is_unseen",
    "missing_column",
    "nearest_category",
    "pandas_type",
    "renumbered",
    "shown",
    "type_beneath",
    "value_at",
]
