"""Arrow in, Arrow out: one request of many rows, columns at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from scoreline_artifacts.loading import LoadedVersion
from scoreline_artifacts.records import Checked, Problem, frame_of_columns, missing_column
from scoreline_client.codes import Code
from scoreline_tasks.scoring import (
    CodecResult,
    RequestProblem,
    Scored,
    count_codes,
    score_frame,
)


def score_arrow(body: bytes, loaded: LoadedVersion) -> CodecResult:
    """Score an IPC stream; the answer is one too, with a row for each row, in order.

    Raises:
        RequestProblem: E_ARROW_INVALID, E_EMPTY_REQUEST, E_DUPLICATE_COLUMN or E_MISSING_COLUMN.
    """
    table = _read(body)
    checked = _checked(table, loaded)
    scored = score_frame(loaded, checked.frame)
    problems = all_problems(checked, scored)
    answer = output_table(table.num_rows, checked, scored, problems, loaded.classes)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, answer.schema) as writer:
        writer.write_table(answer)
    return CodecResult(table.num_rows, count_codes(problems.values()), sink.getvalue())


def all_problems(checked: Checked, scored: Scored) -> dict[int, Problem]:
    """What is wrong with records, by place: before they were scored, and then."""
    problems = {problem.record: problem for problem in checked.problems}
    for row, problem in scored.errors.items():
        problems[row if checked.good is None else int(checked.good[row])] = problem
    return problems


def output_table(
    count: int,
    checked: Checked,
    scored: Scored,
    problems: dict[int, Problem],
    classes: list[Any] | None,
) -> Any:
    """The columns `prediction`, `probability_<class>` and `error`, (count,) each; null is none."""
    columns = {"prediction": _spread(scored.values, count, checked, problems)}
    for place, label in enumerate(classes or ()):
        # Where no row could be scored there are no probabilities, but their columns must be there.
        columns[f"probability_{label}"] = (
            pa.nulls(count, pa.float64())
            if scored.probabilities is None
            else _spread(scored.probabilities[:, place], count, checked, problems)
        )
    errors: list[str | None] = [None] * count
    for row, problem in problems.items():
        errors[row] = f"{problem.code}: {problem.message}"
    columns["error"] = pa.array(errors, pa.string()) if problems else pa.nulls(count, pa.string())
    return pa.table(columns)


def _spread(values: Any, count: int, checked: Checked, problems: dict[int, Problem]) -> Any:
    """Answers of the good records at their places, null everywhere else."""
    array = np.asarray(values)
    rows = pa.array(array.tolist() if array.ndim > 1 or array.dtype == object else array)
    if not problems:
        return rows
    source = np.full(count, -1, dtype=np.int64)
    source[slice(None) if checked.good is None else checked.good] = np.arange(len(rows))
    source[list(problems)] = -1
    return rows.take(pa.array(source, mask=source < 0))


def _read(body: bytes) -> Any:
    try:
        table = pa.ipc.open_stream(body).read_all()
        # Arrow reads buffers without looking; a corrupt one would end this process.
        table.validate(full=True)
        _ = table.column_names
    # A damaged column name is a UnicodeDecodeError.
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        message = f"the body is no valid Arrow IPC stream: {error}"
        raise RequestProblem(Code.ARROW_INVALID, message[:500]) from error
    if table.num_rows == 0:
        raise RequestProblem(Code.EMPTY_REQUEST, "the frame has no rows; send at least one")
    return table


def _checked(table: Any, loaded: LoadedVersion) -> Checked:
    names = table.column_names
    if loaded.schema is None:
        return Checked(table.to_pandas(), None, [])
    for name in loaded.schema.names:
        if names.count(name) > 1:
            message = f"column {name!r} is there {names.count(name)} times"
            raise RequestProblem(Code.DUPLICATE_COLUMN, message, name)
        if name not in names:
            raise RequestProblem(Code.MISSING_COLUMN, missing_column(name, names), name)
    columns = {name: _values(table.column(name)) for name in loaded.schema.names}
    return frame_of_columns(columns, table.num_rows, loaded.schema)


def _values(column: Any) -> Any:
    kind = column.type
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    if numeric and column.null_count == 0:
        return column.to_numpy()
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    return column.to_pylist()
