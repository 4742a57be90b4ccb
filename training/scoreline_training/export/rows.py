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
"""Of a forest's thresholds, as many are tried; each from several sides."""
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
    known: dict[str, list[Any]] = {
        column.name: [*(column.categories or ())] for column in schema.columns
    }
    for name, values in _encoded(plan, traced):
        known[name] = list(dict.fromkeys([*known[name], *values]))
    given = {
        column.name: [record[column.name] for record in golden if column.name in record]
        for column in schema.columns
    }
    drawn = [
        _drawn(column, known[column.name], given[column.name], count, rng)
        for column in schema.columns
    ]
    records = [dict(zip(schema.names, row, strict=True)) for row in zip(*drawn, strict=True)]
    decisive: dict[str, list[float]] = {}
    for name, number in _thresholds(plan, traced, rng):
        decisive.setdefault(name, []).append(number)
    bases = records or [dict(record) for record in golden]
    special = []
    for column in schema.columns:
        values = known[column.name]
        numbers = [*decisive.get(column.name, ()), *values[:MOST_THRESHOLDS]]
        for value in (*values, *_specials(column), *_near(column, numbers)):
            base = bases[int(rng.integers(len(bases)))]
            special.append(base | {column.name: value})
    return records + special


def _drawn(
    column: Column, known: Sequence[Any], given: Sequence[Any], count: int, rng: np.random.Generator
) -> list[Any]:
    low, high = column.minimum or 0.0, column.maximum if column.maximum is not None else 1.0
    values: list[Any]
    if known or column.type not in (*_NUMBERS, ColumnType.BOOLEAN):
        pool = known or given or ["text"]
        values = [pool[place] for place in rng.integers(len(pool), size=count).tolist()]
    elif column.type is ColumnType.NUMBER:
        values = (low + (high - low) * rng.random(count)).tolist()
    elif column.type is ColumnType.INTEGER:
        spread = np.floor(low + (high - low + 1) * rng.random(count))
        values = [int(value) for value in np.minimum(spread, high).tolist()]
    else:
        values = (rng.random(count) < 0.5).tolist()
    if column.nullable:
        for place in np.flatnonzero(rng.random(count) < 0.05).tolist():
            values[place] = None
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
        yield from {one for one in (math.floor(value), math.ceil(value)) if one in bounds}


def _near(column: Column, numbers: Sequence[float]) -> Iterator[Any]:
    """Numbers where a step decides, and those next to them."""
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
            for origin, known in zip(origins, node.categories, strict=False):
                if origin is not None and not origin.scales:
                    yield origin.name, [one for one in known.tolist() if not is_missing(one)]


def _thresholds(
    plan: ScoringPlan, traced: _Traced, rng: np.random.Generator
) -> Iterator[tuple[str, float]]:
    """Columns of the frame, and numbers in them with which a step of the plan decides."""
    for node in plan.nodes:
        if isinstance(node, nodes.Binarize):
            decided = [(place, node.threshold) for place in range(len(traced[node.inputs[0]]))]
        elif isinstance(node, nodes.Bins):
            decided = [
                (place, float(edge)) for place, edges in enumerate(node.edges) for edge in edges
            ]
        else:
            continue
        for place, number in decided:
            origin = _at(traced[node.inputs[0]], place)
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
    for one in (near, above, below):
        yield float(one)
    yield (float(near) + float(above)) / 2
    yield (float(near) + float(below)) / 2


@dataclass(frozen=True)
class _Origin:
    """The column of the frame of which a column of an array is made, and the scalings in between."""

    name: str
    scales: tuple[tuple[nodes.Scale, int], ...] = ()

    def back(self, number: float) -> float:
        """What comes out as this number, but for rounding."""
        for scale, place in reversed(self.scales):
            if scale.divide is not None:
                number *= _operand(scale.divide, place)
            if scale.subtract is not None:
                number += _operand(scale.subtract, place)
            if scale.add is not None:
                number -= _operand(scale.add, place)
            if scale.multiply is not None:
                number /= _operand(scale.multiply, place) or math.nan
        return number


def _operand(value: npt.NDArray[Any] | float, place: int) -> float:
    return float(np.ravel(value)[place if np.size(value) > 1 else 0])


def _at(origins: list[_Origin | None], place: int) -> _Origin | None:
    return origins[place] if place < len(origins) else None


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
            parts = [traced[index] for index in node.inputs]
            return [one for part in parts for one in part] if all(parts) else []
        case nodes.Pick():
            return [_at(before, int(place)) for place in node.columns]
        case nodes.Scale():
            return [
                one and _Origin(one.name, (*one.scales, (node, place)))
                for place, one in enumerate(before)
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
