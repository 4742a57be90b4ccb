"""How far a bulk job is, as its client tells it with each renewal of the lease, for whoever watches the queue."""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec

from scoreline_client.protocol.messages import WireError

LONGEST = 4096
"""Bytes; longer data were not written by Scoreline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProgress:
    """How far a file is. It expires with the job's lease."""

    host: str
    """Where its client runs."""
    source: str
    """The input's name, without its folder."""
    owner: str = ""
    """Whose job it is: the user that its client runs as, or a caller of the gateway; empty from older clients."""
    model: str
    version: int
    rows: int
    """Rows that are answered."""
    rejected: int
    percent: float | None
    """How much of the input that is; None if it is unknown."""
    rows_per_s: float
    seconds: float
    """How long it took so far."""
    seconds_left: float | None
    """How long the rest will take at this pace; None if it is unknown."""

    def encode(self) -> bytes:
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> JobProgress:
        """Read progress; further fields of later releases are left out.

        Raises:
            WireError: the bytes are no progress.
        """
        try:
            progress = _decoder.decode(data)
        except (msgspec.MsgspecError, ValueError) as error:
            raise WireError(f"a job's progress is unusable: {error}") from error
        numbers = (
            progress.rows,
            progress.rejected,
            progress.percent or 0,
            progress.rows_per_s,
            progress.seconds,
            progress.seconds_left or 0,
        )
        if not all(math.isfinite(number) and 0 <= number < 2**53 for number in numbers):
            raise WireError("a job's progress is unusable: it counts what cannot be")
        return progress


_decoder = msgspec.json.Decoder(JobProgress)
