"""The reports of worker processes, the status of a queue, and the announcement of a release.

The artifact store is the truth about releases; Redis only carries the announcement. A report is a JSON
string under its process's key, which expires a few seconds after the process has ended.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from importlib import resources
from typing import Any

import msgspec
from redis.exceptions import NoPermissionError, OutOfMemoryError, ResponseError

from scoreline_client.protocol.full_server import write_while_full
from scoreline_client.protocol.keys import GROUP, Keys, Lane
from scoreline_client.protocol.messages import WireError
from scoreline_client.protocol.names import near_name, split_reference
from scoreline_client.protocol.totals import MOST_VERSIONS

REPORT_TTL_S = 8
"""Seconds after which a process that reports no more counts as gone."""

MOST_LISTED = 20
"""Names that a message lists."""

_REPORT = resources.files("scoreline_client.protocol").joinpath("report.lua").read_text()

_Redis = Any
"""A blocking Redis client; redis-py's own types leave open whether its methods are to be awaited."""


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """The versions that a process has under an alias."""

    serving: int | None
    """The version that answers requests, or None."""
    wanted: int | None
    """The version that the alias names, or None if its last release cannot be trusted."""
    refused: str | None = None
    """Why the wanted version does not serve, or None while it loads or once it serves."""
    resident: list[int] = field(default_factory=list)
    """The versions under this alias that are in the process's memory: the version that answers, and for
    a while its predecessor."""
    deferred: str | None = None
    """Why a main process has each of the processes that serve load the wanted version for itself; memory is
    not shared then."""


@dataclass(frozen=True, kw_only=True)
class ProcessReport:
    """A worker process, as it reports itself every few seconds."""

    name: str
    """`<Celery node name>/<process id>`."""
    host: str
    pid: int
    started_at: float
    """Unix seconds."""
    reported_at: float
    """Unix seconds."""
    models: dict[str, ServedModel] = field(default_factory=dict)
    """By `<model>@<alias>`."""
    requests: int = 0
    """Requests answered since the process started."""
    records: int = 0
    """Records scored or rejected since the process started."""
    batches: int = 0
    """Calls of a pipeline since the process started."""
    answered_at: float = 0.0
    """Unix seconds of the end of its last batch; 0: none yet."""
    rss_bytes: int = 0
    parent: str | None = None
    """The name of the main process that forked this one and loads new versions for it."""
    children: int = 0
    """Processes that a main process is to have, which score in its place; 0: it scores itself."""
    counted: int = 0
    """The number of the counts that it added to the totals last; it grows with each addition."""
    unloaded: int = 0
    """Aliases of which it has loaded nothing yet, while it starts with many models, or when many were just released."""
    store: str = ""
    """The artifact store that it reads: a path or a URL without secrets; empty in reports of earlier releases."""
    store_id: str = ""
    """The identity of that store; empty while nothing was ever published or released there."""
    only: str = ""
    """The models that it answers for, as `SCORELINE_MODELS` names them; empty for all of its store."""

    @property
    def scores(self) -> bool:
        """Whether it answers requests itself."""
        return self.children == 0

    def answers_for(self, model: str) -> bool:
        """Whether it is set to answer for a model, if that is released."""
        patterns = self.only.split(",") if self.only else []
        return not patterns or any(fnmatchcase(model, pattern) for pattern in patterns)

    def encode(self) -> bytes:
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> ProcessReport:
        """Read a report; additional fields of newer workers are left out.

        Raises:
            WireError: the bytes are no report.
        """
        try:
            report = _decoder.decode(data)
        # Anybody with access to the server may have written it: whatever decoding raises, it is no report.
        except Exception as error:
            raise WireError(f"a process's report is unusable: {error}: {data[:80]!r}") from error
        times = (report.started_at, report.reported_at, report.answered_at)
        counts = (
            report.requests,
            report.records,
            report.batches,
            report.rss_bytes,
            report.children,
            report.counted,
            report.unloaded,
        )
        if not all(0 <= number < 2**63 for number in (*times, *counts)):
            raise WireError(
                f"a process's report is unusable, it counts what cannot be: {data[:80]!r}"
            )
        return report


_decoder = msgspec.json.Decoder(ProcessReport)


def is_scoring(report: bytes) -> bool:
    """Whether a stored report is that of a process which answers requests itself.

    A report that cannot be read counts as such: its process is alive, of another release, and main
    processes are few.
    """
    try:
        return ProcessReport.decode(report).scores
    except WireError:
        return True


def readable(reports: Iterable[bytes]) -> list[ProcessReport]:
    """Stored reports, but for those that cannot be read."""
    decoded = []
    for report in reports:
        with contextlib.suppress(WireError):
            decoded.append(ProcessReport.decode(report))
    return decoded


@dataclass(frozen=True, kw_only=True)
class FleetStatus:
    """The queue and the processes that serve it, at a moment."""

    waiting: dict[Lane, int]
    """Requests queued or being scored, by lane."""
    scoring: dict[Lane, int]
    """Requests handed to a worker and not answered yet, by lane."""
    dead: int
    """Requests that were given up because they killed their worker."""
    processes: list[ProcessReport]
    unreadable: int = 0
    """Reports that cannot be read, of processes of another release, perhaps, or of nobody."""


def of_other_stores(reports: Iterable[ProcessReport], store_id: str) -> list[ProcessReport]:
    """The processes that read another artifact store than the one with this identity, as far as they say so."""
    return [
        report for report in reports if report.store_id and store_id and report.store_id != store_id
    ]


def stores_of(reports: Iterable[ProcessReport]) -> list[str]:
    """The artifact stores that processes read, as each names its own."""
    return sorted({report.store for report in reports if report.store})


def unloaded(reports: Iterable[ProcessReport]) -> int:
    """The number of aliases that the process which is furthest behind has still to load."""
    return max([report.unloaded for report in reports], default=0)


def answered_models(reports: Iterable[ProcessReport]) -> list[str]:
    """The settings of SCORELINE_MODELS among these processes, which should all have the same one; empty for all models."""
    return sorted({report.only for report in reports})


def idle_patterns(reports: Iterable[ProcessReport]) -> list[str]:
    """The patterns of SCORELINE_MODELS that fit no model of the processes with that setting: misspelt, perhaps."""
    reports = list(reports)
    if unloaded(reports):
        return []  # it may be one that no process has come to yet
    idle = set()
    for only in filter(None, answered_models(reports)):
        models = {
            name.rpartition("@")[0]
            for report in reports
            if report.only == only
            for name in report.models
        }
        for pattern in only.split(","):
            if not any(fnmatchcase(model, pattern) for model in models):
                idle.add(pattern)
    return sorted(idle)


def send_report(
    redis: _Redis,
    keys: Keys,
    report: ProcessReport,
    counts: Iterable[tuple[str, str, int]] = (),
) -> bool:
    """Store a process's report for REPORT_TTL_S, and add what it has counted to the totals, in one round trip.

    Counts that may have arrived already may be sent again under their number, `report.counted`.
    Returns False where the server's rules for users of an earlier release do not permit counting.
    """
    key, data = keys.process(report.name), report.encode()
    names = [key, keys.processes, keys.totals]
    args = [report.name, data, report.reported_at, REPORT_TTL_S, report.counted, MOST_VERSIONS]
    args += [value for count in counts for value in count]
    try:
        try:
            redis.register_script(_REPORT)(keys=names, args=args)
        except OutOfMemoryError:
            # Where memory is full, too: a fleet without reports looks as if it were not there.
            redis.register_script(f"#!lua flags=allow-oom\n{_REPORT}")(keys=names, args=args)
    except NoPermissionError:
        write_while_full(redis, "SET", key, data, "EX", REPORT_TTL_S)
        write_while_full(redis, "ZADD", keys.processes, report.reported_at, report.name)
        return False
    return True


def withdraw_report(redis: _Redis, keys: Keys, name: str) -> None:
    """Forget a process that ends in order."""
    redis.delete(keys.process(name))
    redis.zrem(keys.processes, name)


def report_keys(keys: Keys, names: Iterable[bytes]) -> dict[str, str]:
    """The keys of the reports of processes by their names; names that no process can have are left out."""
    texts = (name.decode(errors="replace") for name in sorted(names))
    return {keys.process(name): name for name in texts if "\N{REPLACEMENT CHARACTER}" not in name}


def read_reports(redis: _Redis, keys: Keys) -> list[ProcessReport]:
    """The reports of all processes that are alive, by name. Names of dead ones are removed by workers."""
    return read_readable_reports(redis, keys)[0]


def read_readable_reports(redis: _Redis, keys: Keys) -> tuple[list[ProcessReport], int]:
    """The reports of all processes that are alive, and how many cannot be read."""
    names = report_keys(keys, redis.zrange(keys.processes, 0, -1))
    if not names:
        return [], 0
    stored = dict(zip(names.values(), redis.mget(list(names)), strict=True))
    gone = sum(data is None for data in stored.values())
    reports = []
    for name, data in stored.items():
        with contextlib.suppress(WireError):
            report = ProcessReport.decode(data or b"")
            # A report under the key of another process would stand beside that process's own.
            if report.name == name:
                reports.append(report)
    return reports, len(stored) - gone - len(reports)


def reading_nodes(redis: _Redis, keys: Keys) -> set[str] | None:
    """The Celery nodes that read the online lane, by the server's own account; None where it does not tell."""
    try:
        consumers = redis.xinfo_consumers(keys.lane(Lane.ONLINE), GROUP)
    except NoPermissionError:
        return None
    except ResponseError:  # no lane and no group yet: nobody reads
        return set()
    return {node_of(consumer["name"].decode(errors="replace")) for consumer in consumers}


def is_read(redis: _Redis, keys: Keys, *, within_s: float) -> bool:
    """Whether any worker has read the online lane lately, even if no process has reported."""
    try:
        consumers = redis.xinfo_consumers(keys.lane(Lane.ONLINE), GROUP)
    except ResponseError:  # nobody has made the lane, or its user may not ask
        return False
    return any(consumer["idle"] < 1000 * within_s for consumer in consumers)


def node_of(process: str) -> str:
    """The Celery node of a process, by its name."""
    return process.rpartition("/")[0]


def read_status(redis: _Redis, keys: Keys) -> FleetStatus:
    """Backlog, dead letters and processes of a queue."""
    pipeline = redis.pipeline(transaction=False)
    for lane in Lane:
        pipeline.xlen(keys.lane(lane))
        pipeline.xpending(keys.lane(lane), GROUP)
    pipeline.xlen(keys.dead)
    *counts, dead = pipeline.execute(raise_on_error=False)
    for reply in (*counts[::2], dead):
        if isinstance(reply, Exception):
            raise reply
    waiting = dict(zip(Lane, counts[::2], strict=True))
    # A group that does not exist yet is an error here, and means that nothing is being scored.
    pending = [reply["pending"] if isinstance(reply, dict) else 0 for reply in counts[1::2]]
    processes, unreadable = read_readable_reports(redis, keys)
    return FleetStatus(
        waiting=waiting,
        scoring=dict(zip(Lane, pending, strict=True)),
        dead=dead,
        processes=processes,
        unreadable=unreadable,
    )


def announce_release(redis: _Redis, keys: Keys, model: str) -> int:
    """Tell all workers to check a model's releases now; returns how many received it."""
    return int(redis.publish(keys.releases, model))


def served_models(reports: Iterable[ProcessReport]) -> list[tuple[str, dict[str, ServedModel]]]:
    """The models of each process that scores, by the process's name, and then by `<model>@<alias>`.

    Which version is wanted, and why it is refused, is taken from the report of the main process that loads
    versions for it, if there is any.
    """
    reports = list(reports)
    mains = {report.name: report.models for report in reports if not report.scores}
    nothing = ServedModel(serving=None, wanted=None)
    served = []
    for report in reports:
        if report.scores:
            models = dict(report.models)
            for name, main in mains.get(report.parent or "", {}).items():
                own = models.get(name, nothing)
                models[name] = replace(
                    own,
                    wanted=main.wanted,
                    # A deferred version may also fail in the process that loads it for itself.
                    refused=main.refused or (main.deferred and own.refused),
                    deferred=main.deferred,
                )
            served.append((report.name, models))
    return served


def words_for_unknown(
    reference: str, reports: Iterable[ProcessReport], *, names_others: bool = True
) -> str | None:
    """Why no process answers to a reference, by what they report; None where its names are not the reason.

    Without `names_others` it tells nothing of other models.
    """
    name, alias, version = split_reference(reference)
    reports = list(reports)
    served: dict[str, set[str]] = {}
    for _, models in served_models(reports):
        for served_name in models:
            model, _, served_alias = served_name.partition("@")
            served.setdefault(model, set()).add(served_alias)
    if not served or (name in served and (version is not None or alias in served[name])):
        return None
    if name in served:
        unknown, names, reason = alias or "", served[name], f"model {name!r} has no alias {alias!r}"
    else:
        unknown, names, reason = name, set(served), f"no worker serves {name!r}"
        if not names_others:
            return reason
    suggestion = near_name(unknown, sorted(names))
    hint = "" if suggestion is None else f"; did you mean {suggestion!r}?"
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    listed = ", ".join(sorted(names)[:MOST_LISTED]) + more
    store_hint = ""
    if stores_of(reports):
        store_hint = ". Workers serve what was promoted in their artifact store: `scoreline status` says which one that is"
    return f"{reason}{hint or '.'} {'Its aliases' if name in served else 'Served'}: {listed}{store_hint}"


def words_for_waiting(reference: str, reports: Iterable[ProcessReport]) -> str | None:
    """Why processes that serve the queue do not answer for a model yet; None where one does, or the reason is not known."""
    name, alias, version = split_reference(reference)
    if version is not None:
        return None
    reports = list(reports)
    by_process = [models.get(f"{name}@{alias}") for _, models in served_models(reports)]
    states = [state for state in by_process if state is not None]
    if any(state.serving is not None for state in states):
        return None
    for state in states:
        if state.wanted is not None:
            return f"version {state.wanted} of {name!r} is {'refused' if state.refused else 'being loaded'}"
    count = unloaded(reports)
    if not count:
        return None
    return f"workers have {count} more {'model' if count == 1 else 'models'} to load"


def words_for_no_answer(
    queue: str, reports: Sequence[bytes], backlog: int, reference: str | None
) -> str:
    """Why no answer has come, by the stored reports and how many requests wait. `reference` is the model that was asked for."""
    processes = sum(map(is_scoring, reports))
    if processes:
        reason = reference and words_for_waiting(reference, readable(reports))
        return (
            f"{processes} worker {'process serves' if processes == 1 else 'processes serve'} queue {queue!r} "
            f"and {backlog} {'request waits' if backlog == 1 else 'requests wait'}; "
            f"{f'{reason}; ' if reason else ''}`scoreline status` says more"
        )
    if reports:
        return (
            f"no worker process is ready to score for queue {queue!r}: they are being started; "
            "`scoreline status` says more"
        )
    return f"no worker serves queue {queue!r}. Start one: celery -A scoreline_tasks worker"


def convergence(
    reports: list[ProcessReport], model: str, alias: str, version: int
) -> tuple[list[str], dict[str, str], list[str]]:
    """How far a fleet is on its way to a version.

    Returns names of processes that serve it, reasons of those that refuse it by process name, and
    names of those that still have to move. A main process is among the last while it has to start
    processes that serve.
    """
    serving: list[str] = []
    refusing: dict[str, str] = {}
    waiting: list[str] = []
    for name, models in served_models(reports):
        served = models.get(f"{model}@{alias}")
        if served is not None and served.serving == version:
            serving.append(name)
        # Where the release log cannot be read, no version is wanted.
        elif served is not None and served.wanted in (version, None) and served.refused:
            refusing[name] = served.refused
        else:
            waiting.append(name)
    children = Counter(report.parent for report in reports)
    waiting += [
        report.name
        for report in reports
        if not report.scores and children[report.name] < report.children
    ]
    return serving, refusing, waiting
