"""Scores an Arrow IPC stream of many rows; the answer is a stream too."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from scoreline_artifacts.loading.version import LoadedVersion, Scores
from scoreline_artifacts.validation import CheckedRecords, Problem, frame_of_columns, missing_column
from scoreline_client.codes import Code
from scoreline_client.errors import RequestRefused
from scoreline_client.options import NO_OPTIONS, RequestOptions
from scoreline_client.protocol.arrow_tables import read_stream, write_stream
from scoreline_tasks.scoring.predict import CodecResult, rules_of, table_result
from scoreline_tasks.scoring.text_values import coerced


class ArrowBody:
    """The rows of an IPC stream."""

    def __init__(
        self, body: bytes, loaded: LoadedVersion, options: RequestOptions = NO_OPTIONS
    ) -> None:
        """Decode a body and hold its rows to the version's schema.

        Raises:
            RequestRefused: E_ARROW_INVALID, E_EMPTY_REQUEST, E_DUPLICATE_COLUMN or E_MISSING_COLUMN.
        """
        self._loaded = loaded
        self._options = options
        table = read_table(body)
        self._count: int = table.num_rows
        self.checked = check_table(table, loaded, options)

    def results(self, scores: Scores, errors: dict[int, Problem]) -> list[CodecResult]:
        """The one result: an IPC stream with a row for each row, in order.

        Raises:
            RequestRefused: E_WIRE; the version does not have an output that the options name.
        """
        result = table_result(
            self.checked,
            scores,
            errors,
            self._loaded,
            self._options,
            count=self._count,
            position=lambda row: {"row": self._options.first_row + row},
            write=write_stream,
        )
        return [result]


def read_table(body: bytes) -> Any:
    """The table of an IPC stream, safe to look at.

    Raises:
        RequestRefused: E_ARROW_INVALID or E_EMPTY_REQUEST.
    """
    try:
        table = read_stream(body)
        _ = table.column_names
    # A damaged column name is a UnicodeDecodeError.
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        message = f"the body is no valid Arrow IPC stream: {error}"
        raise RequestRefused(Code.ARROW_INVALID, message[:500]) from error
    if table.num_rows == 0:
        raise RequestRefused(Code.EMPTY_REQUEST, "the frame has no rows; send at least one")
    return table


def check_table(table: Any, loaded: LoadedVersion, options: RequestOptions) -> CheckedRecords:
    """Hold every row of a table to the version's schema.

    Raises:
        RequestRefused: E_DUPLICATE_COLUMN or E_MISSING_COLUMN.
    """
    names = table.column_names
    if loaded.schema is None:
        return CheckedRecords(table.to_pandas(), None, [])
    for name in loaded.schema.names:
        if names.count(name) > 1:
            message = f"column {name!r} is there {names.count(name)} times"
            raise RequestRefused(Code.DUPLICATE_COLUMN, message, name)
        if name not in names:
            raise RequestRefused(Code.MISSING_COLUMN, missing_column(name, names), name)
    columns = {name: _values(table.column(name)) for name in loaded.schema.names}
    return frame_of_columns(
        columns,
        table.num_rows,
        loaded.schema,
        rules=rules_of(options),
        reading=coerced if options.coerce else None,
    )


def _values(column: Any) -> Any:
    kind = column.type
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    if numeric and column.null_count == 0:
        return column.to_numpy()
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    return column.to_pylist()
