"""The prediction of a record, or its error, and its warnings."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field, to_builtins

from scoreline_client.shown import html_table


class RecordError(Struct, frozen=True):
    """Why one record has no prediction."""

    code: str
    """One of `scoreline_client.codes.Code`."""
    message: str
    """The value and what was expected, in a sentence."""
    record: int | None = None
    """The record's index in the request, from 0."""
    column: str | None = None
    """The column at fault, where there is one."""
    value: str | None = None
    """The value at fault, escaped and cut at 80 characters."""


class RecordWarning(Struct, frozen=True):
    """Why the prediction of a record may be less reliable."""

    code: str
    """One of `scoreline_client.codes.WarningCode`."""
    message: str
    """The value and what training had, in a sentence."""
    column: str
    value: str
    """The value, escaped and cut at 80 characters."""


# Predictions hold no cycles, and there may be hundreds of thousands: without gc, Python's cyclic garbage
# collector neither counts nor visits them.
class Prediction(Struct, frozen=True, gc=False):
    """The answer for one record: a value and probabilities, or one error."""

    value: Any
    """What the pipeline's `predict` gives for the record, or the `transform` of a pipeline that only
    transforms; a list where it has several outputs; None when there is an error."""
    probabilities: dict[Any, Any] = field(default_factory=dict)
    """Probability of each class, by class; of each label, where a record may have several; by output a
    mapping of these, where each of several outputs has classes. Empty when the pipeline gives none."""
    model: str = ""
    """The model's name."""
    version: int = 0
    """The version that made this prediction."""
    error: RecordError | None = None
    """Why there is no prediction, or None."""
    warnings: tuple[RecordWarning, ...] = ()
    """Values that training did not have; only if the request asked for warnings."""

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON has it, for `json.dumps` or a web framework: classes are text as keys of `probabilities`."""
        plain: dict[str, Any] = to_builtins(self, str_keys=True)
        return plain | {"warnings": list(plain["warnings"])}

    def _repr_html_(self) -> str:
        """As a notebook shows it."""
        if self.error is not None:
            rows = [(self.error.code, self.error.column or "", self.error.message)]
            return html_table(f"{self.model}@{self.version}", ("error", "column", "message"), rows)
        rows = [("value", self.value, "")]
        for label, share in self.probabilities.items():
            rows.append((f"probability of {label}", share, ""))
        rows += [(warning.code, warning.column, warning.message) for warning in self.warnings]
        return html_table(f"{self.model}@{self.version}", ("prediction", "", ""), rows)
