"""What the columns of an answer say of a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scoreline_client.files.formats.pieces import Described
from scoreline_client.predictions import Prediction, RecordError


def predictions_from(
    rows: Sequence[Mapping[str, Any]],
    described: Described,
    problems: Sequence[Mapping[str, Any]],
    first_row: int,
) -> list[Prediction]:
    """Predictions from the columns of an answer, and the particulars of rejected rows; text becomes
    the class or the number that it stands for."""
    by_row = {problem["row"]: problem for problem in problems}
    return [
        _prediction(row, described, by_row.get(number))
        for number, row in enumerate(rows, start=first_row)
    ]


def _prediction(
    row: Mapping[str, Any], described: Described, problem: Mapping[str, Any] | None
) -> Prediction:
    model, version = described.model, described.version
    if problem is not None:
        code, message = problem["code"], problem["message"]
        place, column, value = problem["row"] - 1, problem.get("column"), problem.get("value")
        return Prediction(
            None, {}, model, version, RecordError(code, message, place, column, value)
        )
    shares = {label: float(row[f"probability_{label}"]) for label in described.classes}
    return Prediction(_value(row["prediction"], described.classes), shares, model, version)


def _value(value: Any, classes: Sequence[Any]) -> Any:
    if not isinstance(value, str):
        return value
    for label in classes:
        if value == (str(label).lower() if isinstance(label, bool) else str(label)):
            return label
    try:
        return float(value)
    except ValueError:
        return value
