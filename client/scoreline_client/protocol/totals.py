"""What the processes of a queue have counted: the fields of one hash, to which each adds with its report.

| field                                        | counts                                                        |
|----------------------------------------------|---------------------------------------------------------------|
| `<model>|<version>|<lane>|requests|<outcome>` | requests answered; `ok`, or the code with which one was refused |
| `<model>|<version>|<lane>|records|<outcome>`  | records of scored requests; `ok`, or the code of the rejection |
| `<model>|<version>|<lane>|columns|<code>|<column>` | of the rejected records, those in which this column of the model was at fault |
| `<model>|<version>|<lane>|batches|`           | calls for which requests were put together                    |
| `<model>|<version>|<lane>|busy|`              | microseconds that processes spent on batches                  |
| `<model>|<version>|<lane>|waited|<bound>`     | requests that waited up to so many seconds, and over the bound before; `sum`: microseconds |
| `<model>|<version>|<lane>|scored|<bound>`     | requests whose batch took so long; `sum`: microseconds of all of them |
| `<model>|<version>|<lane>|size|<bound>`       | batches of up to so many records; `sum`: records              |
| `seen|<model>|<version>`                      | Unix seconds at which this version last counted               |

Model and version are empty for requests that no version answered, since callers choose what they name, and for
those of versions beyond MOST_VERSIONS. Numbers only grow. A hash that is gone begins anew at 0.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from scoreline_client.codes import Code
from scoreline_client.protocol.keys import Lane

MOST_VERSIONS = 50
"""Versions of which totals are kept. One that has not counted for an hour makes room for a new one."""
SECONDS = (
    *(0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512),
    *(1.0, 2.0, 4.0, 8.0, 16.0),
)
"""Upper bounds of the buckets of times; a quantile is read within a factor of two."""
MILLISECONDS = tuple(1000 * bound for bound in SECONDS)
RECORDS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 8192, 32768, 131072)
"""Upper bounds of the buckets of a batch's records."""
OUTCOMES = frozenset({"ok", *Code})
BOUNDS: dict[str, tuple[float, ...]] = {"waited": SECONDS, "scored": SECONDS, "size": RECORDS}

MOST_FAULTS = 64
"""Pairs of code and column by which a process counts the rejected records of a version; others are counted by code alone."""

Faults = Counter[tuple[str, str | None]]
"""Rejected records by code and the column at fault, None for no column."""
Counted = tuple[str, str, Lane]
"""A model, its version as text, and a lane."""
NOBODY = ""
"""Model and version of requests that no version answered."""


class Histogram:
    """How many observations are in each bucket, and their sum in whole units."""

    __slots__ = ("bounds", "buckets", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.buckets = [0] * (len(bounds) + 1)
        """Not cumulative; the last one has what is over every bound."""
        self.sum = 0


@dataclass(slots=True)
class Tally:
    """What was counted of one version in one lane. Plain numbers: it is added to for every batch."""

    requests: Counter[str] = field(default_factory=Counter)
    records: Counter[str] = field(default_factory=Counter)
    columns: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Rejected records by code and column."""
    batches: int = 0
    busy_us: int = 0
    waited: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    scored: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    size: Histogram = field(default_factory=lambda: Histogram(RECORDS))

    def fields(self) -> dict[str, int]:
        """The counts that are not 0, by the suffix of their field: all that follows the lane."""
        counts = {f"requests|{outcome}": number for outcome, number in self.requests.items()}
        counts |= {f"records|{outcome}": number for outcome, number in self.records.items()}
        counts |= {
            f"columns|{code}|{name}": number for (code, name), number in self.columns.items()
        }
        counts |= {"batches|": self.batches, "busy|": self.busy_us}
        for name in BOUNDS:
            histogram: Histogram = getattr(self, name)
            for bound, number in zip((*histogram.bounds, "inf"), histogram.buckets, strict=True):
                counts[f"{name}|{bound}"] = number
            counts[f"{name}|sum"] = histogram.sum
        return {name: number for name, number in counts.items() if number}

    def add_field(self, name: str, label: str, number: int) -> None:
        """Read a field's count; what no release has written is left out."""
        if name in ("requests", "records") and label in OUTCOMES:
            getattr(self, name)[label] += number
        elif name == "columns":
            code, _, column = label.partition("|")
            if code in OUTCOMES:
                self.columns[code, column] += number
        elif name == "batches":
            self.batches += number
        elif name == "busy":
            self.busy_us += number
        elif name in BOUNDS:
            histogram: Histogram = getattr(self, name)
            if label == "sum":
                histogram.sum += number
            else:
                bounds = [*map(str, histogram.bounds), "inf"]
                if label in bounds:
                    histogram.buckets[bounds.index(label)] += number


class Totals:
    """What one process has counted: since its start, and in detail since its last report."""

    def __init__(self) -> None:
        self.requests = self.records = self.batches = 0
        self.answered_at = 0.0
        """Unix seconds of the end of the last batch."""
        self._tallies: defaultdict[Counted, Tally] = defaultdict(Tally)
        self._faults: defaultdict[Counted, set[tuple[str, str]]] = defaultdict(set)
        self._lock = threading.Lock()
        """A pool of threads adds to the tallies, and the heartbeat takes them."""

    def add_batch(
        self,
        counted: Counted,
        *,
        waited_ms: Sequence[int],
        scored_us: int,
        busy_us: int,
        records: int,
        rejected: Faults,
    ) -> None:
        """Count a batch: how long each of its requests waited, its records, and those of them that were rejected,
        by code and by a column that the version has."""
        requests = len(waited_ms)
        with self._lock:
            self.records += records
            self.batches += 1
            self.answered_at = time.time()
            tally = self._tallies[counted]
            tally.batches += 1
            tally.busy_us += busy_us
            tally.requests["ok"] += requests
            tally.records["ok"] += records
            if rejected:
                tally.records["ok"] -= rejected.total()
                counted_faults = self._faults[counted]
                for (code, column), number in rejected.items():
                    tally.records[code] += number
                    if column is None or (
                        len(counted_faults) >= MOST_FAULTS and (code, column) not in counted_faults
                    ):
                        continue
                    counted_faults.add((code, column))
                    tally.columns[code, column] += number
            waited, scored, size = tally.waited, tally.scored, tally.size
            buckets = waited.buckets
            for wait_ms in waited_ms:
                buckets[bisect_left(MILLISECONDS, wait_ms)] += 1
            waited.sum += sum(waited_ms) * 1000
            scored.buckets[bisect_left(SECONDS, scored_us / 1e6)] += requests
            scored.sum += scored_us * requests
            size.buckets[bisect_left(RECORDS, records)] += 1
            size.sum += records

    def add_request(self, outcome: str, counted: Counted) -> None:
        """Count a request that no pipeline was called for."""
        with self._lock:
            self._tallies[counted].requests[outcome] += 1

    def add_fields(self, fields: Iterable[tuple[str, str, int]]) -> None:
        """Count what another process has taken out of its own totals."""
        with self._lock:
            for prefix, suffix, number in fields:
                model, _, version = prefix.partition("|")
                lane, name, label = suffix.split("|", 2)
                self._tallies[model, version, Lane(lane)].add_field(name, label, number)

    def take(self) -> list[tuple[str, str, int]]:
        """What was counted since the last call: the field up to the version, the rest of the field, and its growth."""
        with self._lock:
            tallies, self._tallies = self._tallies, defaultdict(Tally)
        return [
            (f"{model}|{version}", f"{lane.value}|{suffix}", number)
            for (model, version, lane), tally in tallies.items()
            for suffix, number in tally.fields().items()
        ]


def decode_totals(stored: Mapping[bytes, bytes]) -> dict[Counted, Tally]:
    """Read the hash; fields that no release has written are left out."""
    totals: defaultdict[Counted, Tally] = defaultdict(Tally)
    lanes = {lane.value: lane for lane in Lane}
    for name, number in stored.items():
        segments = name.decode(errors="replace").split("|", 4)
        if len(segments) == 5 and segments[2] in lanes and number.isdigit() and len(number) < 20:
            model, version, lane, metric, label = segments
            if "|" in label and metric != "columns":
                continue
            totals[model, version, lanes[lane]].add_field(metric, label, int(number))
    return dict(totals)
