"""A request divided into its records, and the answers to them put together again.

Pure. For a request that kills whoever scores it: all but the record that does it are answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from scoreline_client.codes import Code
from scoreline_client.protocol.messages import Answer, Status
from scoreline_tasks.scoring.batch import Entry


def with_records(entry: Entry, records: Sequence[bytes]) -> Entry:
    """The same entry as if these were all of its records."""
    return replace(entry, fields={**entry.fields, b"body": b"[" + b",".join(records) + b"]"})


def crashed(request_id: str, reason: str) -> Answer:
    """The answer for a single record that cannot be scored by anyone."""
    error = {"code": Code.CRASHED.value, "message": f"the record was given up: {reason}"}
    return Answer(id=request_id, records=1, values=[None], errors={"0": error})


def joined(answers: Sequence[Answer]) -> Answer:
    """The answer to a request, from those to its records in order.

    If one was refused as a request, for its version or its time, that is the answer.
    """
    refused = next((one for one in answers if one.status is Status.ERROR), None)
    if refused is not None:
        return refused
    scored = next((one for one in answers if one.version), answers[0])
    errors: dict[str, dict[str, Any]] = {}
    warnings: dict[str, list[dict[str, Any]]] = {}
    values: list[Any] = []
    shares: list[list[float] | None] = []
    for one in answers:
        errors |= {str(len(values) + int(place)): error for place, error in one.errors.items()}
        warnings |= {str(len(values) + int(place)): told for place, told in one.warnings.items()}
        shares += one.probabilities or [None] * len(one.values)
        values += one.values
    return replace(
        scored,
        records=len(values),
        values=values,
        probabilities=shares if any(shares) else None,
        errors=errors,
        warnings=warnings,
    )
