"""How large a request may be: checked before its body is decoded, since a small body can become gigabytes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from scoreline_client.codes import Code
from scoreline_client.errors import RequestRefused
from scoreline_client.options import MOST_COLUMNS
from scoreline_client.settings import ClientSettings

UNPACKED = 16
"""Bytes that the records of a request may take in memory, for each byte that its body may have. Those of ordinary
requests take 3 to 12."""
DENSEST = 40
"""Bytes that a byte of JSON takes in memory at the most, as in `[[]],[[]],`, until all of it is looked through."""
VALUE_BYTES = UNPACKED
"""Bytes that a value of a record takes, in a column and in the pipeline's frame."""
MOST_VALUES = 4
"""Values that records may have with those that are left out, for each byte that a body may have: fifty thousand rows
of a frame with a thousand columns, of which the pipeline uses ten."""
MOST_KEYS = MOST_COLUMNS
"""Keys that the objects of a large body may have on average; a wider record is no row of a table."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How large one request may be, and how much an answer says."""

    max_request_bytes: int = ClientSettings.max_request_bytes
    max_request_records: int = ClientSettings.max_request_records
    suggestions: bool = True
    """Whether messages say which known value was probably meant."""
    unpacked_bytes: int = field(init=False)
    """Bytes of memory that the records of a call may take, as far as they are foreseen."""
    together_bytes: int = field(init=False)
    """Bytes of bodies that are decoded at a time; a body with more is decoded alone."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "unpacked_bytes", UNPACKED * self.max_request_bytes)
        object.__setattr__(self, "together_bytes", self.unpacked_bytes // DENSEST)

    def check_records(self, count: int) -> None:
        """Check how many records a request has.

        Raises:
            RequestRefused: E_TOO_LARGE.
        """
        if count > self.max_request_records:
            raise RequestRefused(
                Code.TOO_LARGE,
                f"the request holds {count} records; this worker takes up to {self.max_request_records} "
                "(SCORELINE_MAX_REQUEST_RECORDS)",
            )

    def check_rejected(self, count: int) -> None:
        """Check how many rejected rows an answer would have to report.

        Raises:
            RequestRefused: E_TOO_LARGE.
        """
        if count > self.max_request_records:
            message = (
                f"{count:,} rows are rejected, more than an answer tells of: send fewer at a time"
            )
            raise RequestRefused(Code.TOO_LARGE, message)

    def check_values(self, records: int, columns: int) -> None:
        """Check how many values the records have, with those that are left out.

        Raises:
            RequestRefused: E_TOO_LARGE.
        """
        most = MOST_VALUES * self.max_request_bytes
        if records * columns > most:
            message = (
                f"{records:,} records of {columns:,} columns are more values than the {most:,} that this worker takes, "
                "also if they are left out: send fewer records at a time"
            )
            raise RequestRefused(Code.TOO_LARGE, message)

    def check_unpacked(self, size: int) -> None:
        """Check about how many bytes of memory the records of a request take.

        Raises:
            RequestRefused: E_TOO_LARGE.
        """
        if size > self.unpacked_bytes:
            raise RequestRefused(
                Code.TOO_LARGE,
                f"the records would take {size >> 20:,} MiB of memory; this worker takes up to "
                f"{self.unpacked_bytes >> 20:,} MiB, {UNPACKED} times SCORELINE_MAX_REQUEST_BYTES: send fewer at a time",
            )

    def check_json(self, body: bytes) -> None:
        """Check how much memory a body of JSON of over `together_bytes` takes when it is decoded.

        Raises:
            RequestRefused: E_TOO_LARGE.
        """
        size = _unpacked_json(body)
        if size > self.unpacked_bytes:
            size = _unpacked_json(outside_texts(body).replace(b'"', b'""')) + len(body)
        self.check_unpacked(size)


DEFAULT_LIMITS = Limits()
"""The limits of the default settings."""


def outside_texts(body: bytes) -> bytes:
    """A body of JSON without its texts; of each, one quote is left.

    Without an object for each text, of which there may be millions.
    """
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    codes = np.frombuffer(plain, np.uint8)
    is_inside = np.cumsum(codes == ord('"'), dtype=np.uint8) & 1  # overflows at 256, which is even
    return bytes(codes[is_inside == 0])


def _unpacked_json(body: bytes) -> int:
    """About how many bytes the values of a body take: measured with CPython 3.11 to 3.13."""
    objects, keys = body.count(b"{"), body.count(b":")
    if keys > MOST_KEYS * (objects + 1):
        return DENSEST * len(body)
    texts = max(0, body.count(b'"') // 2 - keys)
    values, lists = body.count(b","), body.count(b"[")
    return len(body) + 40 * values + 16 * keys + 64 * texts + 80 * lists + 200 * objects
