"""What a fitted pipeline itself tells of the columns that it was fitted on, where the training frame is not at hand."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from scoreline_artifacts.loading.version import outputs_of
from scoreline_artifacts.schema import MAX_KNOWN_TEXTS, ColumnType, Schema

MOST_COLUMNS_ASKED = 200
"""The columns of wider frames stay unknown: each costs some calls of the pipeline."""
_SAMPLES: dict[ColumnType, Any] = {
    ColumnType.NUMBER: 1.0,
    ColumnType.STRING: "a",
    ColumnType.DATETIME: pd.Timestamp("2024-01-31T12:00"),
}
"""A value of each type that a column may turn out to have."""
_TEXT = "no number"


def schema_of_fitted(pipeline: Any) -> Schema | None:
    """The columns that a pipeline was fitted on, by its `feature_names_in_`; None where their types cannot be told.

    The types are found out by asking: a column of which the pipeline takes a number and no text holds numbers. So
    whole numbers and booleans count as numbers, a value may be missing where the pipeline has an answer for that, and
    the ranges of training are not known. The training frame tells all of this.
    """
    names = list(getattr(pipeline, "feature_names_in_", ()))
    if not 0 < len(names) <= MOST_COLUMNS_ASKED or not all(isinstance(name, str) for name in names):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _Probe(pipeline, names, dict(_kept_values(pipeline, names))).schema()


@dataclass(frozen=True, slots=True)
class _Probe:
    """Calls a pipeline with made-up rows."""

    pipeline: Any
    names: list[str]
    kept: Mapping[str, list[Any]]
    """Values of training that an encoder or imputer has kept, by column."""

    def schema(self) -> Schema | None:
        types = self._types()
        if types is None:
            return None
        unused = []
        for name, kind in types.items():
            # What takes text as well as numbers is of any type, or is not looked at.
            if kind is ColumnType.NUMBER and self._takes(types, {name: _TEXT}):
                if not self._takes(types, {}, without=name):
                    return None
                unused.append(name)
        row = self._row(types)
        # What stands for a missing text, in training as read by pandas, or by hand.
        empty = {
            name: missing
            for name in self.names
            for missing in (None, np.nan)
            if self._takes(types, {name: missing})
        }
        rows = [row, row | empty]
        columns = []
        for column in Schema.infer(pd.DataFrame(rows)[self.names]).columns:
            texts = sorted(set(filter(_is_text, self.kept.get(column.name, ()))))
            is_known = column.type is ColumnType.STRING and 0 < len(texts) <= MAX_KNOWN_TEXTS
            categories = tuple(texts) if is_known else None
            columns.append(replace(column, minimum=None, maximum=None, categories=categories))
        schema = Schema(tuple(columns))
        return schema if len(unused) == len(columns) else schema.with_unused(unused)

    def _types(self) -> dict[str, ColumnType] | None:
        """The type of each column with which the pipeline has an answer."""
        known = {
            name: ColumnType.STRING if any(map(_is_text, values)) else ColumnType.NUMBER
            for name, values in self.kept.items()
        }
        others = [name for name in self.names if name not in known]
        guesses = [{}, *({name: kind} for kind in list(_SAMPLES)[1:] for name in others)]
        guesses.append(dict.fromkeys(others, ColumnType.STRING))
        for guess in guesses:
            types = dict.fromkeys(self.names, ColumnType.NUMBER) | known | guess
            if self._takes(types, {}):
                return types
        return None

    def _row(self, types: Mapping[str, ColumnType]) -> dict[str, Any]:
        return {
            name: next(iter(self.kept.get(name, ())), _SAMPLES[types[name]]) for name in self.names
        }

    def _takes(
        self, types: Mapping[str, ColumnType], values: Mapping[str, Any], without: str | None = None
    ) -> bool:
        """Whether the pipeline has an answer for a row with these values, and others that fit the types."""
        columns = {}
        for name, value in (self._row(types) | dict(values)).items():
            is_number = value is None and types[name] is ColumnType.NUMBER
            columns[name] = pd.Series([value], dtype=np.float64 if is_number else None)
        frame = pd.DataFrame(columns).drop(columns=[] if without is None else [without])
        with suppress(Exception):
            answer = np.asarray(getattr(self.pipeline, outputs_of(self.pipeline).method)(frame))
            return answer.dtype.kind != "f" or bool(np.isfinite(answer).all())
        return False


def _kept_values(step: Any, names: list[str]) -> Iterator[tuple[str, list[Any]]]:
    """By column, the values of training that steps have kept which take these columns unchanged."""
    if hasattr(step, "transformers_"):
        for _, inner, selection in step.transformers_:
            columns = [selection] if isinstance(selection, str) else list(np.atleast_1d(selection))
            if all(isinstance(column, int | np.integer) for column in columns):
                columns = [names[int(column)] for column in columns]
            if all(column in names for column in columns):
                yield from _kept_values(inner, list(map(str, columns)))
    elif hasattr(step, "steps"):
        for _, inner in step.steps:
            if getattr(inner, "n_features_in_", None) != len(names):
                return
            yield from _kept_values(inner, names)
            if hasattr(inner, "transformers_") or not hasattr(inner, "statistics_"):
                return  # what it gives has no longer these columns
    elif hasattr(step, "categories_") and len(step.categories_) == len(names):
        for name, values in zip(names, step.categories_, strict=True):
            present = [value for value in np.asarray(values).tolist() if value == value]
            yield name, [value for value in present if value is not None]
    elif hasattr(step, "statistics_") and np.asarray(step.statistics_).dtype.kind in "OU":
        for name, value in zip(names, step.statistics_, strict=True):
            if _is_text(value):
                yield name, [value]


def _is_text(value: object) -> bool:
    return isinstance(value, str)
