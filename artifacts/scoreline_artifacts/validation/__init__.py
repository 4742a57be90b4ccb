"""Raw records to the frame that the pipeline was trained on, with one problem per bad record."""

from scoreline_artifacts.validation.anomalies import (
    describe_anomaly,
    is_out_of_range,
    is_unseen,
    nearest_category,
    value_at,
)
from scoreline_artifacts.validation.convert import (
    EXACT_IN_FLOAT,
    array_of,
    as_column,
    bounds_of,
    clock_of,
    convert_value,
    converter_of,
    numpy_type,
    pandas_type,
)
from scoreline_artifacts.validation.frames import (
    CheckedRecords,
    frame_of_arrays,
    frame_of_columns,
    frame_of_records,
    missing_column,
    renumbered,
)
from scoreline_artifacts.validation.problems import (
    NO_RULES,
    Anomaly,
    InvalidValue,
    Problem,
    Rules,
    UnreadableRecord,
    shown,
)

__all__ = [
    "EXACT_IN_FLOAT",
    "NO_RULES",
    "Anomaly",
    "CheckedRecords",
    "InvalidValue",
    "Problem",
    "Rules",
    "UnreadableRecord",
    "array_of",
    "as_column",
    "bounds_of",
    "clock_of",
    "convert_value",
    "converter_of",
    "describe_anomaly",
    "frame_of_arrays",
    "frame_of_columns",
    "frame_of_records",
    "is_out_of_range",
    "is_unseen",
    "missing_column",
    "nearest_category",
    "numpy_type",
    "pandas_type",
    "renumbered",
    "shown",
    "value_at",
]
