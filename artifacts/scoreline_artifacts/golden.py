"""Golden rows: raw records with the answers that training gave, checked before a version serves."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scoreline_artifacts.errors import CorruptArtifact

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

GOLDEN_ROWS = 32


@dataclass(frozen=True, slots=True)
class GoldenRow:
    """One raw record and its answer."""

    record: dict[str, Any]
    value: Any
    probabilities: list[float] | None


def encode(rows: Sequence[GoldenRow]) -> bytes:
    """JSON Lines, one row each; NaN and infinity as JSON's usual extensions."""
    return b"".join(
        json.dumps(
            {"record": row.record, "value": row.value, "probabilities": row.probabilities},
            default=str,
        ).encode()
        + b"\n"
        for row in rows
    )


def decode(data: bytes) -> list[GoldenRow]:
    """The inverse of `encode`.

    Raises:
        CorruptArtifact: the bytes do not hold golden rows.
    """
    try:
        return [GoldenRow(**json.loads(line)) for line in data.splitlines()]
    except (ValueError, TypeError) as error:
        raise CorruptArtifact("golden.jsonl", f"it cannot be read: {error}") from error


def rows_of(
    records: Sequence[dict[str, Any]],
    values: npt.NDArray[Any],
    probabilities: npt.NDArray[np.float64] | None,
) -> list[GoldenRow]:
    """Records with their answers: `values` is (rows,) or (rows, outputs), `probabilities` (rows, classes)."""
    by_row = [None] * len(records) if probabilities is None else probabilities.tolist()
    return [GoldenRow(*row) for row in zip(records, values.tolist(), by_row, strict=True)]


def same_answer(first: GoldenRow, second: GoldenRow, tolerance: float) -> bool:
    """Whether two rows have the same answer, whatever their records."""
    return equal(first.value, second.value, tolerance) and equal(
        first.probabilities, second.probabilities, tolerance
    )


def equal(expected: Any, actual: Any, tolerance: float) -> bool:
    """Whether two answers are the same, numbers up to a tolerance, NaN like NaN."""
    if isinstance(expected, list) and isinstance(actual, list):
        return len(expected) == len(actual) and all(
            equal(*pair, tolerance) for pair in zip(expected, actual, strict=True)
        )
    if isinstance(expected, float) and isinstance(actual, float):
        if math.isnan(expected) or math.isnan(actual):
            return math.isnan(expected) and math.isnan(actual)
        return math.isclose(expected, actual, rel_tol=tolerance, abs_tol=tolerance)
    return bool(expected == actual)
