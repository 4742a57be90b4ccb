"""The state of a queue at a moment with all that its processes have counted, and both as Prometheus metrics.

`docs/metrics.md` lists the metrics; they are made from Redis at each scrape, so they outlive every process.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from redis.exceptions import NoPermissionError, RedisError

from scoreline_client.errors import MissingDependency
from scoreline_client.fleet import (
    ProcessReport,
    ServedModel,
    read_readable_reports,
    read_status,
    served_models,
)
from scoreline_client.history import LANE_STATE
from scoreline_client.protocol.keys import GROUP, Keys, Lane
from scoreline_client.protocol.messages import WireError
from scoreline_client.protocol.totals import Counted, Histogram, Tally, decode_totals

if TYPE_CHECKING:
    from prometheus_client.core import CollectorRegistry, Metric

logger = logging.getLogger(__name__)

_LANE_STATE = f"#!lua flags=no-writes\n{LANE_STATE}return lane_state(KEYS[1], ARGV[1])"

_Redis = Any
"""A blocking Redis client."""


@dataclass(frozen=True, kw_only=True)
class LaneState:
    """What is in a lane. Ages are in seconds by the server's clock, 0 without such a request; None without the right
    to look."""

    waiting: int
    """Requests that no worker has taken yet."""
    scoring: int
    """Requests that a worker has taken and not answered yet."""
    oldest_waiting_s: float | None = None
    """How long ago the oldest waiting request was queued."""
    oldest_s: float | None = None
    """How long ago the oldest unanswered request was queued."""

    @classmethod
    def of(cls, reply: Sequence[Any], now_ms: float) -> LaneState:
        """From the reply of lane_state.lua, and the server's time."""
        entries, pending, oldest, untaken = reply
        ages = [
            max(0.0, now_ms - int(entry.partition(b"-")[0])) / 1000 if entry else 0.0
            for entry in (untaken, oldest)
        ]
        # An entry that a worker has may be deleted from the lane.
        waiting = max(0, entries - pending)
        return cls(waiting=waiting, scoring=pending, oldest_waiting_s=ages[0], oldest_s=ages[1])


@dataclass(frozen=True, kw_only=True)
class QueueState:
    """A queue, its processes, and what they have counted."""

    lanes: dict[Lane, LaneState]
    dead: int
    """Requests and records that were given up."""
    processes: list[ProcessReport]
    unreadable: int
    """Reports that cannot be read."""
    totals: dict[Counted, Tally]
    """By model, version and lane; empty where this user of the server has no right to read them."""


def read_state(redis: _Redis, keys: Keys) -> QueueState:
    """Read lanes, reports and totals, in three round trips, whatever the number of processes.

    Raises:
        RedisError: the server cannot be reached, or refuses more than what may be left out.
    """
    pipeline = redis.pipeline(transaction=False)
    pipeline.time()
    pipeline.xlen(keys.dead)
    pipeline.hgetall(keys.totals)
    for lane in Lane:
        pipeline.execute_command("EVAL_RO", _LANE_STATE, 1, keys.lane(lane), GROUP)
    time, dead, stored, *lane_replies = pipeline.execute(raise_on_error=False)
    may_look = not any(isinstance(reply, NoPermissionError) for reply in lane_replies)
    for reply in (time, dead, *(lane_replies if may_look else ())):
        if isinstance(reply, Exception):
            raise reply
    if isinstance(stored, NoPermissionError):
        stored = {}
    elif isinstance(stored, Exception):
        raise stored
    if may_look:
        processes, unreadable = read_readable_reports(redis, keys)
        now_ms = int(time[0]) * 1000 + int(time[1]) / 1000
        lanes = {
            lane: LaneState.of(reply, now_ms)
            for lane, reply in zip(Lane, lane_replies, strict=True)
        }
    else:
        # A user without the right to look into a lane may ask for its length.
        status = read_status(redis, keys)
        processes, unreadable = status.processes, status.unreadable
        lanes = {
            lane: LaneState(
                waiting=max(0, length - status.scoring[lane]), scoring=status.scoring[lane]
            )
            for lane, length in status.waiting.items()
        }
    return QueueState(
        lanes=lanes,
        dead=dead,
        processes=processes,
        unreadable=unreadable,
        totals=decode_totals(stored),
    )


def behind(served: ServedModel) -> bool:
    """Whether a process is still to get the version that an alias names."""
    return served.serving != served.wanted and served.wanted is not None and not served.refused


class Collector:
    """Makes the metrics of a queue whenever Prometheus asks; for a registry of prometheus-client."""

    def __init__(self, connect: Callable[[], _Redis], keys: Keys) -> None:
        """`connect` gives a blocking client, which is not closed.

        Raises:
            MissingDependency: prometheus-client is not installed.
        """
        try:
            from prometheus_client import core
        except ImportError as error:
            raise MissingDependency("metrics", "prometheus-client", "metrics") from error
        self._core = core
        self._connect = connect
        self._keys = keys

    def collect(self) -> Iterator[Metric]:
        """All metrics; `scoreline_up` alone, at 0, while the server cannot be read."""
        up = self._core.GaugeMetricFamily("scoreline_up", "1 if Redis could be read.", 0.0)
        try:
            state = read_state(self._connect(), self._keys)
        except (RedisError, WireError, OSError) as error:
            logger.warning("metrics_not_read: %s; scoreline_up is 0", error)
            yield up
            return
        up.samples[0] = up.samples[0]._replace(value=1.0)
        yield up
        yield from self._of_lanes(state)
        yield from self._of_processes(state)
        yield from self._of_totals(state.totals)

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering asks no server."""
        return ()

    def _gauge(
        self,
        name: str,
        help_text: str,
        labels: Sequence[str],
        values: Iterable[tuple[Sequence[str], float]],
    ) -> Metric:
        family = self._core.GaugeMetricFamily(name, help_text, labels=labels)
        for label_values, value in values:
            family.add_metric(label_values, value)
        return family

    def _of_lanes(self, queue: QueueState) -> Iterator[Metric]:
        lanes = {lane.value: state for lane, state in queue.lanes.items()}
        yield self._gauge(
            "scoreline_waiting",
            "Requests that no process has taken yet.",
            ["lane"],
            (([lane], state.waiting) for lane, state in lanes.items()),
        )
        yield self._gauge(
            "scoreline_scoring",
            "Requests that a process has taken and not answered yet.",
            ["lane"],
            (([lane], state.scoring) for lane, state in lanes.items()),
        )
        for name, help_text, ages in (
            (
                "scoreline_oldest_seconds",
                "Age of the oldest request that no process has taken yet; 0 if there is none.",
                {lane: state.oldest_waiting_s for lane, state in lanes.items()},
            ),
            (
                "scoreline_oldest_unfinished_seconds",
                "Age of the oldest request that is not answered yet; 0 if there is none.",
                {lane: state.oldest_s for lane, state in lanes.items()},
            ),
        ):
            samples = (([lane], age) for lane, age in ages.items() if age is not None)
            yield self._gauge(name, help_text, ["lane"], samples)
        yield self._gauge(
            "scoreline_dead_letters",
            "Requests and records that were given up.",
            [],
            [([], queue.dead)],
        )

    def _of_processes(self, state: QueueState) -> Iterator[Metric]:
        reports = state.processes
        states = Counter("scoring" if report.scores else "main" for report in reports)
        yield self._gauge(
            "scoreline_processes",
            "Processes that report: those that score, and main processes whose children score.",
            ["state"],
            (([name], states[name]) for name in ("scoring", "main")),
        )
        hosts: Counter[str] = Counter()
        for report in reports:
            hosts[report.host] += report.rss_bytes
        yield self._gauge(
            "scoreline_resident_bytes",
            "Resident memory of a host's processes; pages that they share count for each.",
            ["host"],
            (([host], number) for host, number in hosts.items()),
        )
        yield self._gauge(
            "scoreline_unreadable_reports",
            "Reports of processes that this release cannot read.",
            [],
            [([], state.unreadable)],
        )
        serving: Counter[tuple[str, ...]] = Counter()
        refused: Counter[tuple[str, ...]] = Counter()
        late: Counter[tuple[str, ...]] = Counter()
        for _, models in served_models(reports):
            for name, served in models.items():
                model, _, alias = name.partition("@")
                refused[model, alias] += bool(served.refused)
                late[model, alias] += behind(served)
                if served.serving is not None:
                    serving[model, alias, str(served.serving)] += 1
        labels = ["model", "alias", "version"]
        yield self._gauge(
            "scoreline_serving",
            "Processes that answer with a version.",
            labels,
            serving.items(),
        )
        yield self._gauge(
            "scoreline_refused",
            "Processes that refuse the version which an alias names.",
            labels[:2],
            refused.items(),
        )
        yield self._gauge(
            "scoreline_behind",
            "Processes that are still to get the version which an alias names.",
            labels[:2],
            late.items(),
        )

    def _of_totals(self, totals: dict[Counted, Tally]) -> Iterator[Metric]:
        labels = ["model", "version", "lane"]
        by_labels = {
            (model, version, lane.value): tally for (model, version, lane), tally in totals.items()
        }
        for name, help_text in (
            ("requests", "Requests answered, by outcome: ok, or the code of the refusal."),
            ("records", "Records of requests that were scored, by outcome: ok, or the code."),
        ):
            counter = self._core.CounterMetricFamily(
                f"scoreline_{name}", help_text, labels=[*labels, "outcome"]
            )
            for label_values, tally in by_labels.items():
                for outcome, number in getattr(tally, name).items():
                    counter.add_metric([*label_values, outcome], number)
            yield counter
        rejected = self._core.CounterMetricFamily(
            "scoreline_rejected",
            "Records rejected for a value of a column, by code and column.",
            labels=[*labels, "code", "column"],
        )
        for label_values, tally in by_labels.items():
            for fault, number in tally.columns.items():
                rejected.add_metric([*label_values, *fault], number)
        yield rejected
        batches = self._core.CounterMetricFamily(
            "scoreline_batches", "Batches that were scored.", labels=labels
        )
        busy = self._core.CounterMetricFamily(
            "scoreline_process_busy_seconds",
            "Seconds that processes spent on batches.",
            labels=labels,
        )
        for label_values, tally in by_labels.items():
            batches.add_metric(label_values, tally.batches)
            busy.add_metric(label_values, tally.busy_us / 1e6)
        yield batches
        yield busy
        for name, attribute, unit, help_text in (
            ("queue_seconds", "waited", 1e6, "How long requests waited in their lane."),
            ("score_seconds", "scored", 1e6, "How long the batch of a request took."),
            ("batch_records", "size", 1, "Records of a batch."),
        ):
            family = self._core.HistogramMetricFamily(f"scoreline_{name}", help_text, labels=labels)
            for label_values, tally in by_labels.items():
                histogram: Histogram = getattr(tally, attribute)
                bounds = [str(float(bound)) for bound in histogram.bounds] + ["+Inf"]
                counts = accumulate(histogram.buckets)
                family.add_metric(
                    label_values,
                    [(bound, float(count)) for bound, count in zip(bounds, counts, strict=True)],
                    histogram.sum / unit,
                )
            yield family


def registry(connect: Callable[[], _Redis], keys: Keys) -> CollectorRegistry:
    """A registry with a queue's metrics and nothing else.

    Raises:
        MissingDependency: prometheus-client is not installed.
    """
    collector = Collector(connect, keys)
    from prometheus_client.core import CollectorRegistry

    queue_registry = CollectorRegistry()
    queue_registry.register(collector)
    return queue_registry
