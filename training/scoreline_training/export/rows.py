"""Rows to prove a file with: within the schema, at its edges, and where a step of the plan decides one way or the other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from scoreline_artifacts.plan import ScoringPlan, ends, nodes
from scoreline_artifacts.schema import Column, ColumnType, Schema
from scoreline_artifacts.validation.convert import bounds_of
from scoreline_training.export.arithmetic import is_missing

UNSEEN = "no such category"
MOST_THRESHOLDS = 500
"""Thresholds of a forest that are tried, each from several sides."""
_NUMBERS = (ColumnType.INTEGER, ColumnType.NUMBER)


def proving_records(
    schema: Schema,
    plan: ScoringPlan,
    golden: Sequence[dict[str, Any]],
    *,
    count: int,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """`count` records at random, and one each for everything that is special about a column.

    Numbers are between the smallest and the largest of training; where an encoder reads a column, they are among its
    categories. Special are these two, 0, what is beyond them, a missing value, every category and one that training did
    not have, and the thresholds of trees and bins. Of thresholds, and of categories that are numbers, the numbers next
    to them are tried, too. Of columns of free text or time, the values of golden records are taken.
    """
    rng = np.random.default_rng(seed)
    traced = _traced(plan)
    known_values: dict[str, list[Any]] = {
        column.name: [*(column.categories or ())] for column in schema.columns
    }
    for name, values in _encoded(plan, traced):
        known_values[name] = list(dict.fromkeys([*known_values[name], *values]))
    golden_values = {
        column.name: [record[column.name] for record in golden if column.name in record]
        for column in schema.columns
    }
    drawn = [
        _drawn(column, known_values[column.name], golden_values[column.name], count, rng)
        for column in schema.columns
    ]
    records = [dict(zip(schema.names, row, strict=True)) for row in zip(*drawn, strict=True)]
    decisive: dict[str, list[float]] = {}
    for name, number in _thresholds(plan, traced, rng):
        decisive.setdefault(name, []).append(number)
    bases = records or [dict(record) for record in golden]
    special = []
    for column in schema.columns:
        values = known_values[column.name]
        numbers = [*decisive.get(column.name, ()), *values[:MOST_THRESHOLDS]]
        for value in (*values, *_specials(column), *_near(column, numbers)):
            base = bases[int(rng.integers(len(bases)))]
            special.append(base | {column.name: value})
    return records + special


def _drawn(
    column: Column,
    known_values: Sequence[Any],
    golden_values: Sequence[Any],
    count: int,
    rng: np.random.Generator,
) -> list[Any]:
    low, high = column.minimum or 0.0, column.maximum if column.maximum is not None else 1.0
    values: list[Any]
    if known_values or column.type not in (*_NUMBERS, ColumnType.BOOLEAN):
        pool = known_values or golden_values or ["text"]
        values = [pool[index] for index in rng.integers(len(pool), size=count).tolist()]
    elif column.type is ColumnType.NUMBER:
        values = (low + (high - low) * rng.random(count)).tolist()
    elif column.type is ColumnType.INTEGER:
        spread = np.floor(low + (high - low + 1) * rng.random(count))
        values = [int(value) for value in np.minimum(spread, high).tolist()]
    else:
        values = (rng.random(count) < 0.5).tolist()
    if column.nullable:
        for index in np.flatnonzero(rng.random(count) < 0.05).tolist():
            values[index] = None
    return values


def _specials(column: Column) -> Iterator[Any]:
    if column.nullable:
        yield None
    if column.type in _NUMBERS:
        low, high = column.minimum or 0.0, column.maximum if column.maximum is not None else 1.0
        beyond = (low - (high - low) / 2 - 1, high + (high - low) / 2 + 1)
        for value in (low, high, 0.0, *beyond):
            yield from _as_typed(column, value)
    elif column.type is ColumnType.BOOLEAN:
        yield from (True, False)
    elif column.type is ColumnType.STRING:
        yield UNSEEN


def _as_typed(column: Column, value: float) -> Iterator[Any]:
    if column.type is ColumnType.NUMBER:
        yield value
    elif math.isfinite(value):
        bounds = bounds_of(column.dtype)
        yield from {whole for whole in (math.floor(value), math.ceil(value)) if whole in bounds}


def _near(column: Column, numbers: Sequence[float]) -> Iterator[Any]:
    """Thresholds of steps, and the numbers next to them."""
    if column.type not in _NUMBERS:
        return
    for number in numbers:
        for value in (number, math.nextafter(number, math.inf), math.nextafter(number, -math.inf)):
            if math.isfinite(value):
                yield from _as_typed(column, value)


def _encoded(plan: ScoringPlan, traced: _Traced) -> Iterator[tuple[str, list[Any]]]:
    """Columns of the frame that an encoder reads as they are, and its categories."""
    for node in plan.nodes:
        if isinstance(node, nodes.OneHot | nodes.Ordinal):
            origins = [origin for index in node.inputs for origin in traced[index]]
            for origin, categories in zip(origins, node.categories, strict=False):
                if origin is not None and not origin.scales:
                    values = [value for value in categories.tolist() if not is_missing(value)]
                    yield origin.name, values


def _thresholds(
    plan: ScoringPlan, traced: _Traced, rng: np.random.Generator
) -> Iterator[tuple[str, float]]:
    """Columns of the frame, and thresholds that a step of the plan compares them with."""
    for node in plan.nodes:
        if isinstance(node, nodes.Binarize):
            decided = [(column, node.threshold) for column in range(len(traced[node.inputs[0]]))]
        elif isinstance(node, nodes.Bins):
            decided = [
                (column, float(edge)) for column, edges in enumerate(node.edges) for edge in edges
            ]
        else:
            continue
        for column, number in decided:
            origin = _at(traced[node.inputs[0]], column)
            if origin is not None:
                yield origin.name, origin.back(number)
    trees: list[Any] = []
    if isinstance(plan.end, ends.Trees):
        trees = [*plan.end.trees]
    elif isinstance(plan.end, ends.Boosted):
        trees = [tree.tree_ for tree in plan.end.estimator.estimators_.ravel()]
    if not trees:
        return
    feature = np.concatenate([tree.feature for tree in trees])
    threshold = np.concatenate([tree.threshold for tree in trees])
    split = np.flatnonzero(feature >= 0)
    for index in rng.permutation(split)[:MOST_THRESHOLDS].tolist():
        origin = _at(traced[plan.end.input], int(feature[index]))
        if origin is not None:
            for number in _edges_of_32_bits(float(threshold[index])):
                yield origin.name, origin.back(number)


def _edges_of_32_bits(number: float) -> Iterator[float]:
    """A threshold, and what rounds to the floats of 32 bits beside it, as scikit-learn's trees compare them."""
    yield number
    near = np.float32(number)
    above, below = np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))
    for neighbour in (near, above, below):
        yield float(neighbour)
    yield (float(near) + float(above)) / 2
    yield (float(near) + float(below)) / 2


@dataclass(frozen=True)
class _Origin:
    """The column of the frame of which a column of an array is made, and the scalings in between."""

    name: str
    scales: tuple[tuple[nodes.Scale, int], ...] = ()

    def back(self, number: float) -> float:
        """The number that the scalings turn into this one, but for rounding."""
        for scale, index in reversed(self.scales):
            if scale.divide is not None:
                number *= _operand(scale.divide, index)
            if scale.subtract is not None:
                number += _operand(scale.subtract, index)
            if scale.add is not None:
                number -= _operand(scale.add, index)
            if scale.multiply is not None:
                number /= _operand(scale.multiply, index) or math.nan
        return number


def _operand(value: npt.NDArray[Any] | float, index: int) -> float:
    return float(np.ravel(value)[index if np.size(value) > 1 else 0])


def _at(origins: list[_Origin | None], index: int) -> _Origin | None:
    return origins[index] if index < len(origins) else None


_Traced: TypeAlias = list[list[_Origin | None]]
"""By node, the origins of its columns."""


def _traced(plan: ScoringPlan) -> _Traced:
    traced: _Traced = [[]]
    for node in plan.nodes:
        traced.append(_trace(node, traced))
    return traced


def _trace(node: nodes.Node, traced: _Traced) -> list[_Origin | None]:
    """Where the columns of a node's array come from; none where its width is not known."""
    before = traced[node.inputs[0]]
    match node:
        case nodes.Columns():
            return [_Origin(name) for name in node.names]
        case nodes.Concat():
            inputs = [traced[index] for index in node.inputs]
            return [origin for origins in inputs for origin in origins] if all(inputs) else []
        case nodes.Pick():
            return [_at(before, int(index)) for index in node.columns]
        case nodes.Scale():
            return [
                origin and _Origin(origin.name, (*origin.scales, (node, index)))
                for index, origin in enumerate(before)
            ]
        case nodes.Impute():
            more = 0 if node.indicated is None else len(node.indicated)
            return [*before, *[None] * more] if before else []
        case nodes.OneHot():
            return [None] * node.width
        case nodes.Ordinal():
            return [None] * len(node.categories)
        case nodes.Polynomial():
            return [_at(before, term[0]) if len(term) == 1 else None for term in node.terms]
        case nodes.Project():
            return [None] * len(node.components)
        case nodes.Ufunc() | nodes.Binarize() | nodes.Bins():
            return [None] * len(before)
    return []
