"""Announces a release, follows the workers until they serve it, and reports how it went."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from redis import Redis, RedisError
from rich.console import Console
from rich.status import Status

from scoreline_artifacts.store.releases import Release
from scoreline_client import fleet
from scoreline_client.cli.kit import INTERRUPTED, PARTLY, SERVICE, plain, print_json
from scoreline_client.protocol.keys import Keys
from scoreline_client.settings import ClientSettings
from scoreline_client.transport.connection import server_error
from scoreline_client.transport.servers import blocking_redis

REDIS_TIMEOUT_S = 5.0
POLL_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """How far the fleet is on its way to a release; worker processes by name."""

    release: Release
    serving: list[str] = field(default_factory=list)
    refusing: dict[str, str] = field(default_factory=dict)
    """Reasons by process."""
    waiting: list[str] = field(default_factory=list)
    """Processes that have neither moved nor refused to."""
    unknown: list[str] = field(default_factory=list)
    """Reports of processes whose node reads no queue: of a worker that is just starting, or made up."""
    elsewhere: dict[str, str] = field(default_factory=dict)
    """Processes that read another artifact store, and which; they will never serve the release."""
    excluded: list[str] = field(default_factory=list)
    """Processes that do not answer for the model, by their SCORELINE_MODELS."""
    stores: list[str] = field(default_factory=list)
    """The stores of all processes that are to serve it, as each names its own."""
    seconds: float = 0.0
    """Since the release was announced."""

    @property
    def process_count(self) -> int:
        """How many worker processes are alive."""
        return len(self.serving) + len(self.refusing) + len(self.waiting)

    @property
    def complete(self) -> bool:
        """Whether every process that is alive, and is to serve the version, reports that it does."""
        is_known = bool(self.process_count) or not (self.unknown or self.excluded)
        return is_known and not self.waiting and not self.refusing and not self.elsewhere

    def __str__(self) -> str:
        target = f"{self.release.model}@{self.release.version}"
        return f"{len(self.serving)} of {self.process_count} worker processes report that they serve {target}"


def connect(settings: ClientSettings) -> Redis:
    """The connection over which a release is announced, not opened yet.

    Raises:
        SettingsError: SCORELINE_REDIS_URL is no URL that can be connected to.
    """
    settings.check_redis_url()
    return blocking_redis(
        settings.redis_url,
        socket_timeout=REDIS_TIMEOUT_S,
        socket_connect_timeout=REDIS_TIMEOUT_S,
    )


def roll_out(
    release: Release,
    before: Release | None,
    settings: ClientSettings,
    redis: Redis,
    *,
    store: str,
    timeout_s: float | None,
    as_json: bool,
) -> int:
    """Announce a release, follow it (not at all if `timeout_s` is None), report; gives the exit code.

    The release is in force when this begins, and any failure here is reported beside that. `before` is the
    release that was in force until then; the same release if nothing has changed. `store` is where it was made, as
    it may be shown.
    """
    console = Console(quiet=as_json, highlight=False)
    name = f"{release.model}@{release.alias}"
    if release == before:
        console.print(f"{name} is version {release.version} already")
    else:
        was = f" (was {before.version})" if before else ""
        console.print(f"{name} is now version {release.version}{was}")
    rollout, error, exit_code = None, None, 0
    keys = Keys(settings.queue)
    live: AbstractContextManager[Status | None] = nullcontext()
    if console.is_terminal and timeout_s is not None:
        live = console.status("waiting for the workers")
    try:
        with redis, live as status:
            fleet.announce_release(redis, keys, release.model)
            rollout = follow(
                redis,
                keys,
                release,
                timeout_s or 0,
                lambda progress: status.update(str(progress)) if status else None,
            )
    except RedisError as failure:
        # In the words of `scoreline status`: a server that refuses this user is reached.
        error = str(server_error(failure, settings))
        exit_code = SERVICE
    except KeyboardInterrupt:
        error, exit_code = "interrupted while waiting for the workers", INTERRUPTED
    # The boundary of the waiting: without this, a traceback would hide what was released.
    except Exception as failure:  # noqa: BLE001
        error = f"the workers cannot be followed: {type(failure).__name__}: {failure}"
        exit_code = PARTLY
    else:
        exit_code = 0 if rollout.complete or timeout_s is None else PARTLY
        _report(console, rollout, store, waited=timeout_s is not None)
    if error is not None:
        end = "" if error.endswith((".", ".)")) else "."
        console.print(
            f"{plain(error)}{end} The release is made all the same: workers look for it every few "
            "seconds. See `scoreline status`."
        )
    if as_json:
        _print_json(release, before, rollout, store, error)
    return exit_code


def follow(
    redis: Redis,
    keys: Keys,
    release: Release,
    timeout_s: float,
    on_progress: Callable[[Rollout], None] = lambda _: None,
    now: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> Rollout:
    """Wait until every worker process reports that it serves the release or refuses it, or time is up.

    Whoever may write reports may make them up. So only processes count whose node reads the online lane, by the
    server's own account; where the server does not say, all do.
    """
    begun = now()
    while True:
        seconds = now() - begun
        reports, nodes = fleet.read_reports(redis, keys), fleet.reading_nodes(redis, keys)
        counted = [
            report for report in reports if nodes is None or fleet.node_of(report.name) in nodes
        ]
        others = fleet.of_other_stores(counted, release.store)
        concerned = [
            report
            for report in counted
            if report not in others and report.answers_for(release.model)
        ]
        serving, refusing, waiting = fleet.convergence(
            concerned, release.model, release.alias, release.version
        )
        rollout = Rollout(
            release=release,
            serving=serving,
            refusing=refusing,
            waiting=waiting,
            unknown=[report.name for report in reports if report not in counted],
            elsewhere={report.name: report.store for report in others if report.scores},
            stores=fleet.stores_of(concerned),
            excluded=[
                report.name
                for report in counted
                if report.scores and not report.answers_for(release.model)
            ],
            seconds=seconds,
        )
        on_progress(rollout)
        is_settled = not waiting and (rollout.process_count or not rollout.unknown)
        if is_settled or seconds >= timeout_s:
            return rollout
        pause(POLL_S)


def _report(console: Console, rollout: Rollout, store: str, *, waited: bool) -> None:
    release = rollout.release
    target = f"{release.model}@{release.version}"
    for name in rollout.unknown:
        console.print(
            f"{plain(name)} reports, and reads no queue: a worker that starts or ends, or none"
        )
    if rollout.elsewhere:
        stores = ", ".join(sorted(set(rollout.elsewhere.values())))
        console.print(
            f"{len(rollout.elsewhere)} of the worker processes read another artifact store, and will not serve it: "
            f"workers read {plain(stores)}; this was released in {plain(store)} (SCORELINE_ARTIFACTS)"
        )
        if not rollout.process_count:
            return
    if rollout.excluded:
        console.print(
            f"{len(rollout.excluded)} of the worker processes do not answer for {release.model}: "
            "SCORELINE_MODELS of their workers leaves it out"
        )
        if not rollout.process_count:
            console.print(f"nobody serves {target}")
            return
    if not rollout.process_count:
        console.print(f"no worker is running; workers serve {target} when they start")
        return
    if rollout.complete:
        console.print(
            f"all {rollout.process_count} worker processes report that they serve {target} "
            f"({rollout.seconds:.1f} s)"
        )
        return
    if not waited:
        console.print(f"told {rollout.process_count} worker processes; not waiting for them")
        return
    console.print(str(rollout))
    for reason in dict.fromkeys(rollout.refusing.values()):
        names = [name for name, its_reason in rollout.refusing.items() if its_reason == reason]
        verb = "refuses" if len(names) == 1 else "refuse"
        console.print(f"  {plain(', '.join(names))} {verb} it: {plain(reason)}")
    for name in rollout.waiting:
        console.print(f"  {plain(name)} has not moved within {rollout.seconds:.0f} s")
    if rollout.refusing:
        option = "" if release.alias == "production" else f" --alias {release.alias}"
        console.print(
            f"The version before {target} continues to serve there. "
            f"To go back everywhere: scoreline rollback {release.model}{option}"
        )
    else:
        console.print("They may still be loading it: see `scoreline status`.")
        if rollout.stores and rollout.stores != [store]:
            console.print(
                f"Workers read {plain(', '.join(rollout.stores))}; this was released in {plain(store)}: where these "
                "are two stores, SCORELINE_ARTIFACTS is to be the same"
            )


def _print_json(
    release: Release,
    before: Release | None,
    rollout: Rollout | None,
    store: str,
    error: str | None,
) -> None:
    report: dict[str, Any] = {
        "model": release.model,
        "alias": release.alias,
        "version": release.version,
        "previous": before.version if before else None,
        "changed": release != before,
        "store": store,
    }
    if rollout is not None:
        report |= {
            "serving": rollout.serving,
            "refusing": rollout.refusing,
            "waiting": rollout.waiting,
            "unknown": rollout.unknown,
            "elsewhere": rollout.elsewhere,
            "excluded": rollout.excluded,
            "seconds": round(rollout.seconds, 3),
        }
    if error is not None:
        report["error"] = error
    print_json(report, indent=2)
