"""Proves that the plan of a pipeline answers as the pipeline does, in the clean room, and finds out up to how many rows it is faster.

Both score golden rows, rows of training and generated ones: together, in other company, and alone. Labels are to be the same, numbers
the same but for what a product of matrices may round otherwise, and nothing may be answered that the pipeline refuses.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import pandas as pd

from scoreline_artifacts.loading.artifact import plan_of
from scoreline_artifacts.loading.planned import PlanProof, versions_here
from scoreline_artifacts.plan import ScoringPlan
from scoreline_artifacts.plan.ends import Boosted, Trees
from scoreline_artifacts.plan.nodes import Columns
from scoreline_artifacts.schema import Column, ColumnType, Schema
from scoreline_artifacts.validation import CheckedRows

if TYPE_CHECKING:
    from scoreline_artifacts.loading.version import LoadedVersion

MOST_ERROR = 1e-12
"""Of a number, relative to itself, or to the median of its batch if that is larger."""
GENERATED_ROWS = 10_000
CHUNK = 500
ALONE = 100
"""Rows that are compared one by one."""
SIZES = (1, 8, 64, 512, 4096, 20_000)
"""Numbers of rows for which both are timed."""
WITHOUT_LIMIT = 2**31 - 1


class _Differs(Exception):
    """Raised when a plan answers otherwise than its pipeline."""


def prove_plan(
    loaded: LoadedVersion,
    golden_frame: pd.DataFrame,
    training: pd.DataFrame,
    limit_s: float,
) -> PlanProof:
    """Score through the plan and through the pipeline, for `limit_s` seconds at the most: fewer rows are compared where the pipeline is slow.

    The frames have the columns and types of training.
    """
    plan = plan_of(loaded)
    if isinstance(plan, str) or loaded.schema is None:
        return PlanProof(reason=str(plan))
    deadline = time.monotonic() + limit_s
    comparison = _PlanComparison(loaded, plan)
    facts: dict[str, Any] = {
        "nodes": len(plan.nodes), "opaque": [*plan.opaque], "versions": versions_here(),
    }  # fmt: skip
    try:
        with joblib.parallel_config(backend="threading"), loaded.settings.in_force():
            comparison.compare(golden_frame)
            if comparison.rows < len(golden_frame):
                return PlanProof(
                    reason=f"it does not answer golden rows: {comparison.unplanned}", **facts
                )
            random = np.random.default_rng(0)
            comparison.compare(golden_frame.iloc[random.permutation(len(golden_frame))])
            up_to_rows = faster_up_to(loaded, plan, training, deadline - limit_s / 2)
            rows = pd.concat(
                [training, *generated(loaded.schema, training, plan)], ignore_index=True
            )
            rows = rows.iloc[random.permutation(len(rows))]
            for start in range(0, len(rows), CHUNK):
                # However slow they are, some rows of each kind are compared.
                if start > CHUNK and time.monotonic() > deadline:
                    break
                chunk = rows.iloc[start : start + CHUNK]
                comparison.compare(chunk)
                for row in range(min(len(chunk), max(1, ALONE * CHUNK // len(rows)))):
                    if time.monotonic() <= deadline:
                        comparison.compare(chunk.iloc[[row]])
    except _Differs as difference:
        return PlanProof(reason=str(difference), **facts)
    return PlanProof(
        reason="" if up_to_rows else "it is not faster",
        rows=comparison.rows,
        max_error=comparison.max_error,
        up_to_rows=up_to_rows,
        **facts,
    )


class _PlanComparison:
    """Scores rows with a plan and with its pipeline, and records how many, and how far the answers differ."""

    def __init__(self, loaded: LoadedVersion, plan: ScoringPlan) -> None:
        self.rows, self.max_error, self.unplanned = 0, 0.0, ""
        self._pipeline, self._plan = loaded.pipeline, plan
        self._methods = ("predict", "predict_proba") if loaded.has_probabilities else ("predict",)

    def compare(self, frame: pd.DataFrame) -> None:
        """Score a frame both ways.

        Raises:
            _Differs: the plan's answers are others, or the pipeline has none.
        """
        frame = frame.reset_index(drop=True)
        for method in self._methods:
            try:
                plan_answer = getattr(self._plan, method)(as_requested(frame))
            # Whatever it is: the pipeline serves then.
            except Exception as reason:  # noqa: BLE001
                self.unplanned = f"{type(reason).__name__}: {reason}"
                return
            try:
                pipeline_answer = getattr(self._pipeline, method)(frame.copy())
            except Exception as error:
                raise _Differs(
                    f"it answers rows that the pipeline refuses: {type(error).__name__}: {error}"
                ) from error
            difference = _difference(pipeline_answer, plan_answer, method)
            self.max_error = max(self.max_error, difference)
        self.rows += len(frame)


def as_requested(frame: pd.DataFrame) -> CheckedRows:
    """The rows of a frame as a request brings them, of which no frame has been made yet."""
    rows = CheckedRows.of(frame)
    arrays = [rows.column(index).copy() for index in range(len(rows.names))]
    return CheckedRows(rows.names, arrays, len(rows))


def _difference(want: Any, got: Any, method: str) -> float:
    """The largest difference of numbers, relative to themselves, or to their median if that is larger.

    Raises:
        _Differs: it is too large, or types, shapes or labels are not the same.
    """
    if type(want) is not type(got) or np.shape(want) != np.shape(got):
        raise _Differs(f"{method} gives {type(got).__name__} of shape {np.shape(got)}")
    want, got = np.asarray(want), np.asarray(got)
    if want.dtype != got.dtype:
        raise _Differs(f"{method} gives {got.dtype}, not {want.dtype}")
    if want.dtype.kind != "f":
        if not (want == got).all():
            raise _Differs(f"{method} gives other labels")
        return 0.0
    with np.errstate(invalid="ignore"):
        same = (want == got) | (np.isnan(want) & np.isnan(got))
        if same.all():
            return 0.0
        sizes = np.maximum(np.abs(want), np.nanmedian(np.abs(want)))
        difference = float((np.abs(want - got) / np.maximum(sizes, 1e-300))[~same].max())
    if not difference <= MOST_ERROR:
        raise _Differs(f"{method} differs by {difference:.2g}")
    return difference


def faster_up_to(
    loaded: LoadedVersion, plan: ScoringPlan, frame: pd.DataFrame, deadline: float
) -> int:
    """Up to how many rows the plan takes less CPU time than the pipeline; 0: it is not faster for one row.

    Where time runs out before the largest size, what a further row takes, by the last two sizes, decides about more rows.
    """
    method = "predict_proba" if loaded.has_probabilities else "predict"
    measured: list[tuple[float, float]] = []
    for size in SIZES:
        if measured and time.monotonic() > deadline:
            break
        rows = frame.iloc[np.arange(size) % len(frame)].reset_index(drop=True)
        best = [math.inf, math.inf]
        for _ in range(5 if size <= 64 else 3):
            # In turns: whatever slows the machine down for a while slows down both.
            for index, scorer in enumerate((plan, loaded.pipeline)):
                requested = as_requested(rows)
                start = time.process_time()
                with suppress(Exception):  # rows that only the pipeline answers
                    # A frame is made for the pipeline alone.
                    getattr(scorer, method)(requested if scorer is plan else requested.own_frame())
                best[index] = min(best[index], time.process_time() - start)
        if best[0] >= best[1]:
            return SIZES[len(measured) - 1] if measured else 0
        measured.append((best[0], best[1]))
    if len(measured) == len(SIZES):
        return WITHOUT_LIMIT
    if len(measured) > 1:
        by_plan, by_pipeline = np.subtract(measured[-1], measured[-2])
        if by_plan < by_pipeline:
            return WITHOUT_LIMIT
    return SIZES[len(measured) - 1]


def generated(schema: Schema, training: pd.DataFrame, plan: ScoringPlan) -> Iterator[pd.DataFrame]:
    """Frames of rows unlike those of training, with its columns and types: values of training in other combinations, and
    among them missing, unseen and extreme ones, and those at which trees decide."""
    random = np.random.default_rng(1)
    count = GENERATED_ROWS // 4
    mixed = pd.DataFrame(
        {
            name: training[name].sample(count, replace=True, random_state=random).array
            for name in schema.names
        }
    )
    yield mixed
    special: dict[str, Sequence[Any]] = {column.name: _special(column) for column in schema.columns}
    for name, thresholds in _thresholds(plan).items():
        special[name] = [*special[name], *thresholds]
    for share in (0.05, 0.5):
        columns = {}
        for column in schema.columns:
            values = mixed[column.name].copy()
            # A column whose type cannot hold one of them keeps its values.
            with suppress(TypeError, ValueError, OverflowError):
                if candidates := special[column.name]:
                    indexes = random.integers(0, len(candidates), count)
                    picked = pd.Series([candidates[index] for index in indexes])
                    picked = picked.astype(values.dtype)
                    values = values.where(random.random(count) >= share, picked)
            columns[column.name] = values.astype(training[column.name].dtype)
        yield pd.DataFrame(columns)


def _special(column: Column) -> list[Any]:
    """Values that a column may have and that training may not have had."""
    missing = {"NA": pd.NA, "nan": np.nan}.get(column.missing)
    values: list[Any] = [missing] if column.nullable else []
    if column.type is ColumnType.STRING:
        return [*values, "", "never seen", *(column.categories or ())]
    if column.type is ColumnType.CATEGORY:
        return [*values, *(column.categories or ())]
    if column.type not in (ColumnType.NUMBER, ColumnType.INTEGER):
        return values
    low, high = column.minimum or 0.0, column.maximum or 0.0
    spread = (high - low) or 1.0
    numbers = [low, high, 0.0, low - spread, high + spread, -high, 1e6 * high, (low + high) / 2]
    if column.type is ColumnType.INTEGER:
        return values + [int(number) for number in numbers]
    neighbours = np.nextafter([low, high], [high, low]).tolist()
    return [*values, *numbers, -0.0, 1e-300, 1e300, -1e39, *neighbours]


def _thresholds(plan: ScoringPlan) -> dict[str, list[float]]:
    """By column, the numbers at which trees on unchanged columns decide, and their neighbours."""
    end = plan.end
    source = plan.nodes[end.input - 1] if end.input else None
    if not isinstance(end, Trees | Boosted) or not isinstance(source, Columns):
        return {}
    if isinstance(end, Trees):
        trees = end.trees
    else:
        trees = tuple(estimator.tree_ for estimator in end.estimator.estimators_.ravel())
    directions = np.array([-np.inf, np.inf])
    thresholds: dict[str, list[float]] = defaultdict(list)
    for tree in trees[:20]:
        for feature, threshold in zip(tree.feature.tolist(), tree.threshold.tolist(), strict=True):
            if feature >= 0:
                thresholds[source.names[feature]] += [
                    threshold,
                    *np.nextafter(threshold, directions).tolist(),
                    *np.nextafter(np.float32(threshold), directions.astype(np.float32)).tolist(),
                ]
    return thresholds
