"""The columns that callers may leave out: those that the publisher declares, and those that are proven to be unused."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import pandas as pd

from scoreline_artifacts import Schema, UnsuitableData, golden
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_artifacts.validation import frame_of_records

ROWS_COMPARED = 10_000
"""Training rows that are scored without the columns that golden rows do not need."""


def rows_without_optional(
    here: LoadedVersion, rows: Sequence[golden.GoldenRow]
) -> list[golden.GoldenRow]:
    """A golden row in which each optional column is missing, and one in which all of them are.

    Raises:
        UnsuitableData: the pipeline raises, or answers with NaN, where one is missing.
    """
    schema = here.schema or Schema(())
    optional = [column.name for column in schema.columns if column.optional]
    left_out = [[name] for name in optional]
    left_out += [optional] if len(optional) > 1 else []
    more: list[golden.GoldenRow] = []
    for index, names in enumerate(left_out):
        record = {**rows[index % len(rows)].record, **dict.fromkeys(names)}
        listed = ", ".join(map(repr, names))
        try:
            scores = here.score(frame_of_records([record], schema).frame)
        # Whatever the pipeline raises: it has no answer for what the publisher wants to permit.
        except Exception as error:
            raise UnsuitableData(
                f"optional= names {listed}, but the pipeline cannot score a record without it: "
                f"{type(error).__name__}: {error}. Let it fill in what is missing (SimpleImputer, for one), "
                "or leave the column out of optional="
            ) from error
        if scores.unusable:
            raise UnsuitableData(
                f"optional= names {listed}, but for a record without it {scores.unusable[0]}"
            )
        more += golden.rows_of([record], scores.values, scores.probabilities)
    return more


def confirm_unused(
    here: LoadedVersion, schema: Schema, frame: pd.DataFrame, tolerance: float
) -> Schema:
    """The schema, in which columns stay unused only if training rows get the same answers without them."""
    unused = [column.name for column in schema.columns if column.unused]
    if not unused:
        return schema
    chosen = np.linspace(0, len(frame) - 1, min(len(frame), ROWS_COMPARED)).astype(int)
    rows = frame.iloc[chosen].reset_index(drop=True)
    # Whatever the pipeline raises without these columns: callers had better give them.
    with suppress(Exception):
        want, got = (
            golden.rows_of([{}] * len(rows), scores.values, scores.probabilities)
            for scores in (here.score(rows), here.score(rows.drop(columns=unused)))
        )
        if all(golden.same_answer(*pair, tolerance) for pair in zip(want, got, strict=True)):
            return schema
    return schema.with_unused([])
