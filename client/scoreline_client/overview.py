"""A queue at a glance: what waits and has waited, rates and times of each version, workers, releases, errors, jobs.

`Overview` reads it again and again, and tells rates from two readings; the live page and `scoreline status --watch`
show what it returns.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any

from redis.exceptions import NoPermissionError

from scoreline_client.dead_letters import DeadLetter
from scoreline_client.fleet import ProcessReport, served_models
from scoreline_client.history import HistoryPoint, read_history
from scoreline_client.metrics import LaneState, read_state
from scoreline_client.protocol.job_progress import LONGEST, JobProgress
from scoreline_client.protocol.keys import Keys, Lane
from scoreline_client.protocol.messages import WireError
from scoreline_client.protocol.totals import Counted, Histogram, Tally

WINDOW_S = 30.0
"""Seconds over which rates and times are computed."""
MOST_JOBS = 50
MOST_LETTERS = 5

_Redis = Any
"""A blocking Redis client; redis-py's own types leave open whether its methods are to be awaited."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Times:
    """How long half of the requests took at the most, and 99 of 100; in seconds, within a factor of two."""

    p50_s: float
    p99_s: float

    @classmethod
    def of(cls, buckets: Counter[float]) -> Times | None:
        """From how many observations are in the bucket of each upper bound; None if there are none."""
        bounds = sorted(buckets)
        up_to = list(accumulate(buckets[bound] for bound in bounds))
        if not up_to or not up_to[-1]:
            return None
        half, most = (
            next(
                bound
                for bound, count in zip(bounds, up_to, strict=True)
                if count >= share * up_to[-1]
            )
            for share in (0.5, 0.99)
        )
        return cls(p50_s=half, p99_s=most)


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionActivity:
    """What a version did within the window; a version is None where no version answered."""

    model: str
    version: str
    requests_per_s: float
    records_per_s: float
    rejected_share: float
    """The share of its requests and records that were refused or rejected."""
    waited: Times | None
    """How long its requests waited for a worker; None if there were none."""
    scored: Times | None
    """How long their batches took."""
    records: int
    """Since the totals began."""

    @classmethod
    def between(
        cls,
        model: str,
        version: str,
        before: Mapping[Counted, Tally],
        now: Mapping[Counted, Tally],
        window_s: float,
    ) -> VersionActivity:
        """What a version did between two readings of the totals, in both lanes together."""
        requests, records = Counter[str](), Counter[str]()
        waited, scored, total = Counter[float](), Counter[float](), 0
        for lane in Lane:
            tally = now.get((model, version, lane), Tally())
            old = before.get((model, version, lane), Tally())
            requests += tally.requests - old.requests
            records += tally.records - old.records
            waited += _buckets(tally.waited) - _buckets(old.waited)
            scored += _buckets(tally.scored) - _buckets(old.scored)
            total += tally.records.total()
        refused = requests.total() - requests["ok"]
        judged = refused + records.total()
        return cls(
            model=model,
            version=version,
            requests_per_s=requests.total() / window_s if window_s else 0.0,
            records_per_s=records.total() / window_s if window_s else 0.0,
            rejected_share=(judged - records["ok"]) / judged if judged else 0.0,
            waited=Times.of(waited),
            scored=Times.of(scored),
            records=total,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorCount:
    """How often a code was given as the reason."""

    code: str
    column: str | None
    """The column at fault; None where there is none, or it was not counted."""
    model: str
    version: str
    requests: int
    """Requests that were refused as a whole, since the totals began."""
    records: int
    """Records that were rejected."""
    recent: int
    """Requests and records within the window."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseState:
    """How many processes answer for an alias with a version, and why they do with no other."""

    name: str
    """`<model>@<alias>`."""
    serving: int | None
    wanted: int | None
    processes: int
    refused: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerState:
    """A process."""

    name: str
    host: str
    is_main: bool
    up_s: float
    reported_ago_s: float
    requests: int
    records: int
    resident_bytes: int
    versions: list[str]
    """The versions in its memory, as `<model>@<version>`."""

    @classmethod
    def of(cls, report: ProcessReport, now: float) -> WorkerState:
        """A process as it reported itself."""
        return cls(
            name=report.name,
            host=report.host,
            is_main=not report.scores,
            up_s=max(0.0, now - report.started_at),
            reported_ago_s=max(0.0, now - report.reported_at),
            requests=report.requests,
            records=report.records,
            resident_bytes=report.rss_bytes,
            versions=sorted(
                {
                    f"{name.partition('@')[0]}@{version}"
                    for name, served in report.models.items()
                    for version in served.resident
                }
            ),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class RunningJob:
    """A bulk job; `progress` is None where its client does not tell any."""

    id: str
    progress: JobProgress | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Glance:
    """A queue at a moment."""

    at: float
    """Unix seconds by this machine's clock."""
    queue: str
    window_s: float
    """Seconds between the two readings that rates are computed from; 0 for the first reading, which has no rates."""
    lanes: dict[Lane, LaneState]
    history: dict[int, list[HistoryPoint]]
    versions: list[VersionActivity]
    errors: list[ErrorCount]
    busy_share: float | None
    """How much of their time processes spent on batches within the window."""
    workers: list[WorkerState]
    releases: list[ReleaseState]
    jobs: list[RunningJob]
    job_count: int
    dead: int
    letters: list[DeadLetter]
    """The newest of them, without their fields."""
    unreadable: int
    """Reports of processes that cannot be read."""


@dataclass
class Overview:
    """Reads a queue again and again, over one blocking connection."""

    redis: _Redis
    keys: Keys
    _readings: deque[tuple[float, dict[Counted, Tally]]] = field(default_factory=deque, init=False)
    """The totals of the window, and when they were read."""
    _letters: list[DeadLetter] = field(default_factory=list, init=False)
    _letters_of: tuple[int, float] = field(default=(0, 0.0), init=False)
    """How many dead letters there were when the newest were read, and when they are read again."""

    def look(self) -> Glance:
        """Read everything once, in some six round trips, whatever the number of processes.

        Raises:
            RedisError: the server cannot be reached, or refuses what an operator may read.
        """
        state = read_state(self.redis, self.keys)
        now, moment = time.time(), time.monotonic()
        if self._readings and _is_reset(self._readings[-1][1], state.totals):
            self._readings.clear()
        self._readings.append((moment, state.totals))
        while moment - self._readings[0][0] > WINDOW_S and len(self._readings) > 2:
            self._readings.popleft()
        since, before = self._readings[0]
        window_s = moment - since
        scoring = sum(report.scores for report in state.processes)
        busy_us = sum(tally.busy_us for tally in state.totals.values())
        busy_us -= sum(tally.busy_us for tally in before.values())
        share = min(1.0, busy_us / 1e6 / window_s / scoring) if window_s and scoring else None
        jobs = read_jobs(self.redis, self.keys)
        return Glance(
            at=now,
            queue=self.keys.queue,
            window_s=window_s,
            lanes=state.lanes,
            history=read_history(self.redis, self.keys),
            versions=[
                VersionActivity.between(*version, before, state.totals, window_s)
                for version in sorted({(model, version) for model, version, _ in state.totals})
            ],
            errors=count_errors(before, state.totals),
            busy_share=share,
            workers=[WorkerState.of(report, now) for report in state.processes],
            releases=release_states(state.processes),
            jobs=jobs[:MOST_JOBS],
            job_count=len(jobs),
            dead=state.dead,
            letters=self.newest_letters(state.dead),
            unreadable=state.unreadable,
        )

    def newest_letters(self, count: int) -> list[DeadLetter]:
        """The newest of `count` dead letters; none without the right to read them."""
        read_at_count, fresh_until = self._letters_of
        # Each comes with its body of up to some MiB.
        if count != read_at_count or time.monotonic() > fresh_until:
            entries = []
            if count:
                with suppress(NoPermissionError):
                    entries = self.redis.xrevrange(self.keys.dead, count=MOST_LETTERS)
            self._letters = [replace(DeadLetter.of(*entry), fields={}) for entry in entries]
            self._letters_of = (count, time.monotonic() + WINDOW_S)
        return self._letters


def read_jobs(redis: _Redis, keys: Keys) -> list[RunningJob]:
    """The bulk jobs that hold a lease, the most advanced first; none without the right to list them.

    Raises:
        RedisError: the server cannot be reached.
    """
    now_ms = redis.time()[0] * 1000
    try:
        leases = redis.zrange(keys.jobs, now_ms, now_ms + 61_000, byscore=True, offset=0, num=1000)
        names = [lease.decode(errors="replace") for lease in leases]
        pipeline = redis.pipeline(transaction=False)
        for name in names:
            pipeline.getrange(keys.progress(name), 0, LONGEST)
        replies = pipeline.execute()
    except NoPermissionError:
        return []
    jobs = []
    for name, data in zip(names, replies, strict=True):
        progress = None
        with suppress(WireError):
            progress = JobProgress.decode(data) if data else None
        # Not the whole id: with it, anybody can cancel the job.
        jobs.append(RunningJob(id=name[:8], progress=progress))
    return sorted(jobs, key=lambda job: -(job.progress.percent or 0) if job.progress else 1)


def _is_reset(before: Mapping[Counted, Tally], now: Mapping[Counted, Tally]) -> bool:
    """Whether the totals began anew between two readings, with a server that was emptied or replaced."""
    nothing = Tally()
    return any(now.get(key, nothing).batches < tally.batches for key, tally in before.items())


def _buckets(histogram: Histogram) -> Counter[float]:
    """Observations by upper bound; those over every bound stand at twice the last one."""
    bounds = [*histogram.bounds, 2 * histogram.bounds[-1]]
    return Counter(dict(zip(bounds, histogram.buckets, strict=True)))


def count_errors(before: Mapping[Counted, Tally], now: Mapping[Counted, Tally]) -> list[ErrorCount]:
    """All codes that were given as reasons, by the column at fault; those of the window first."""
    earlier = _faults(before)
    errors = [
        ErrorCount(
            code=code,
            column=column,
            model=model,
            version=version,
            requests=requests,
            records=records,
            recent=max(
                0, requests + records - sum(earlier.get((code, column, model, version), (0, 0)))
            ),
        )
        for (code, column, model, version), (requests, records) in _faults(now).items()
    ]
    return sorted(
        errors,
        key=lambda error: (
            -error.recent,
            -error.requests - error.records,
            error.code,
            error.column or "",
            error.model,
        ),
    )


def _faults(
    totals: Mapping[Counted, Tally],
) -> dict[tuple[str, str | None, str, str], tuple[int, int]]:
    """Requests and records by code, column, model and version, of both lanes together."""
    requests: Counter[tuple[str, str | None, str, str]] = Counter()
    records: Counter[tuple[str, str | None, str, str]] = Counter()
    for (model, version, _), tally in totals.items():
        for code, number in tally.requests.items():
            requests[code, None, model, version] += number
        for code, number in tally.records.items():
            records[code, None, model, version] += number
        for (code, column), number in tally.columns.items():
            records[code, column, model, version] += number
            records[code, None, model, version] -= number
    return {
        fault: (requests[fault], records[fault])
        for fault in {*requests, *records}
        if fault[0] != "ok" and requests[fault] + records[fault] > 0
    }


def release_states(reports: Iterable[ProcessReport]) -> list[ReleaseState]:
    """For each alias, the versions with which processes answer, and how many processes do."""
    states = Counter(
        (name, served.serving, served.wanted, served.refused)
        for _, models in served_models(reports)
        for name, served in models.items()
    )
    releases = [
        ReleaseState(name=name, serving=serving, wanted=wanted, processes=count, refused=refused)
        for (name, serving, wanted, refused), count in states.items()
    ]
    return sorted(
        releases, key=lambda release: (release.name, release.serving or 0, release.wanted or 0)
    )
