"""What a caller gets back for a record."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class RecordError:
    """Why one record has no prediction."""

    code: str
    """One of `scoreline_client.codes.Code`."""
    message: str
    """What was found and what was expected, for people."""
    record: int | None = None
    """The record's place in the request, from 0."""
    column: str | None = None
    """The column at fault, where there is one."""
    value: str | None = None
    """The value at fault, escaped and cut at 80 characters."""


@dataclass(frozen=True, slots=True)
class RecordWarning:
    """What is worth knowing about a record that was scored all the same."""

    code: str
    """One of `scoreline_client.codes.WarningCode`."""
    message: str
    """What was found and what training had, for people."""
    column: str
    value: str
    """The value, escaped and cut at 80 characters."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer for one record: a value and probabilities, or one error."""

    value: Any
    """What the pipeline's `predict` gives for the record; None when there is an error."""
    probabilities: dict[Any, float] = field(default_factory=dict)
    """Probability of each class, by class; empty when the pipeline gives none."""
    model: str = ""
    """The model's name."""
    version: int = 0
    """The version that made this prediction."""
    error: RecordError | None = None
    """Why there is no prediction, or None."""
    warnings: tuple[RecordWarning, ...] = ()
    """What training did not have; only if the request asked to be warned."""


def prediction_of(
    value: Any, probabilities: dict[Any, float], model: str, version: int
) -> Prediction:
    """A prediction without errors or warnings, made in half the time that its constructor takes.

    There is one for each record, and a frozen dataclass looks for its setter at each field.
    """
    made = _new(Prediction)
    _set_value(made, value)
    _set_probabilities(made, probabilities)
    _set_model(made, model)
    _set_version(made, version)
    _set_error(made, None)
    _set_warnings(made, ())
    return made


_new = object.__new__
_set_value, _set_probabilities, _set_model, _set_version, _set_error, _set_warnings = (
    getattr(Prediction, one.name).__set__ for one in fields(Prediction)
)
