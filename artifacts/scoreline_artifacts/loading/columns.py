"""What is found out by asking a fitted pipeline: the columns that callers may leave out, and whether answers depend on company."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pandas as pd

from scoreline_artifacts import Schema, UnsuitableData, golden
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_artifacts.validation import frame_of_records

MOST_COLUMNS_TRIED = 500
"""Wider frames than this are taken to be needed whole: each column may cost a call or two of the pipeline."""
ROWS_COMPARED = 10_000
"""Training rows that are scored without the columns that golden rows do not need."""


def rows_without_optional(
    loaded: LoadedVersion, rows: Sequence[golden.GoldenRow]
) -> list[golden.GoldenRow]:
    """A golden row in which each optional column is missing, and one in which all of them are.

    Raises:
        UnsuitableData: the pipeline raises, or answers with NaN, where one is missing.
    """
    schema = loaded.schema or Schema(())
    optional = [column.name for column in schema.columns if column.optional]
    left_out = [[name] for name in optional]
    left_out += [optional] if len(optional) > 1 else []
    further_rows: list[golden.GoldenRow] = []
    for index, names in enumerate(left_out):
        record = {**rows[index % len(rows)].record, **dict.fromkeys(names)}
        columns = ", ".join(map(repr, names))
        try:
            scores = loaded.score(frame_of_records([record], schema).frame)
        # Whatever the pipeline raises: it has no answer for what the publisher wants to permit.
        except Exception as error:
            raise UnsuitableData(
                f"optional= names {columns}, but the pipeline cannot score a record without it: "
                f"{type(error).__name__}: {error}. Let it fill in what is missing (SimpleImputer, for one), "
                "or leave the column out of optional="
            ) from error
        if scores.unusable:
            raise UnsuitableData(
                f"optional= names {columns}, but for a record without it {scores.unusable[0]}"
            )
        further_rows += golden.rows_of([record], scores.values, scores.probabilities)
    return further_rows


def confirm_unused(
    loaded: LoadedVersion, schema: Schema, frame: pd.DataFrame, tolerance: float
) -> Schema:
    """The schema, in which columns stay unused only if training rows get the same answers without them."""
    unused = [column.name for column in schema.columns if column.unused]
    if not unused:
        return schema
    indexes = np.linspace(0, len(frame) - 1, min(len(frame), ROWS_COMPARED)).astype(int)
    rows = frame.iloc[indexes].reset_index(drop=True)
    # Whatever the pipeline raises without these columns: callers had better give them.
    with suppress(Exception):
        want, got = (
            golden.rows_of([{}] * len(rows), scores.values, scores.probabilities)
            for scores in (loaded.score(rows), loaded.score(rows.drop(columns=unused)))
        )
        if all(golden.same_answer(*pair, tolerance) for pair in zip(want, got, strict=True)):
            return schema
    return schema.with_unused([])


def is_batchable(loaded: LoadedVersion, rows: Sequence[golden.GoldenRow], tolerance: float) -> bool:
    """Whether records get the same answers alone, together with others, and in another order."""
    records = [row.record for row in rows]
    shuffled = np.random.default_rng(0).permutation(len(rows)).tolist()
    # A pipeline that fails on some batch, or on none, depends on the batch.
    with suppress(Exception):
        alone = [loaded.score_records([record])[0] for record in records]
        mixed = loaded.score_records([records[index] for index in shuffled])
        pairs = [*zip(rows, alone, strict=True)]
        pairs += [(rows[index], answer) for index, answer in zip(shuffled, mixed, strict=True)]
        return all(golden.same_answer(want, got, tolerance) for want, got in pairs)
    return False


def unused_columns(
    loaded: LoadedVersion, rows: Sequence[golden.GoldenRow], tolerance: float
) -> list[str]:
    """The columns without which golden rows get the same answers: from a frame that does not have them, and
    from records that leave them out.

    A pipeline that asks for a column by name, or counts its columns, raises without it. One that does
    without all of them looks at nothing, and is no reason to take records of anything.
    """
    schema = loaded.schema
    if schema is None or not 1 < len(schema.columns) <= MOST_COLUMNS_TRIED:
        return []
    records = [row.record for row in rows]
    frame = frame_of_records(records, schema).frame

    def same_without(names: Sequence[str]) -> bool:
        # Whatever a pipeline raises without a column: it uses that column.
        with suppress(Exception):
            scores = loaded.score(frame.drop(columns=list(names)))
            answers = golden.rows_of(records, scores.values, scores.probabilities)
            pairs = zip(rows, answers, strict=True)
            return all(golden.same_answer(want, got, tolerance) for want, got in pairs)
        return False

    unused: list[str] = []
    waiting = [schema.names]
    while waiting:
        names = waiting.pop()
        if len(names) < len(schema.columns) and same_without([*unused, *names]):
            unused += names
        elif len(names) > 1:
            middle = len(names) // 2
            waiting += [names[middle:], names[:middle]]
    if not unused or len(unused) == len(schema.columns):
        return []
    left_out = [
        {name: value for name, value in record.items() if name not in unused} for record in records
    ]
    without = replace(loaded, schema=schema.with_unused(unused))
    with suppress(Exception):
        pairs = zip(rows, without.score_records(left_out), strict=True)
        if all(golden.same_answer(want, got, tolerance) for want, got in pairs):
            return sorted(unused)
    return []
