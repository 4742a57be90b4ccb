"""`scoreline health`: whether a queue is served, judged by its progress; for containers, systemd and scripts."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

import click
from redis.exceptions import RedisError

from scoreline_client.cli.kit import PARTLY, SERVICE, Seconds, command, json_option, print_json, say
from scoreline_client.fleet import answered_models, node_of, served_models, unloaded
from scoreline_client.metrics import QueueState, behind, read_state
from scoreline_client.protocol.keys import Keys, Lane
from scoreline_client.settings import ClientSettings
from scoreline_client.transport.connection import server_error
from scoreline_client.transport.servers import blocking_redis

_REPLY_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Health:
    """The health of a queue, or of one worker of it."""

    processes: int
    """Processes that score and report."""
    oldest_s: dict[str, float | None]
    """Seconds for which the oldest request has waited that no process has taken, by lane."""
    answered_s: float | None
    """Seconds since a process finished its last batch; None: not since they started."""
    refused: dict[str, str]
    """By `<model>@<alias>`, why a process refuses the version that the alias names."""
    behind: list[str]
    """`<model>@<alias>` whose released version a process does not serve yet."""
    unloaded: int
    """Aliases that a process has still to load, of which it has no version yet."""
    answered_models: list[str]
    """The different settings of SCORELINE_MODELS that processes have; an empty text is all models."""
    problems: list[str]
    """What makes it unhealthy; empty if nothing does."""


def judge(
    state: QueueState, *, node: str | None, online_s: float, bulk_s: float | None, releases: bool
) -> Health:
    """Judge the state of a queue by limits; with a node, that worker's share in it."""
    reports = [report for report in state.processes if node is None or node_of(report.name) == node]
    scoring = [report for report in reports if report.scores]
    answered_at = max([report.answered_at for report in scoring], default=0.0)
    answered_s = max(0.0, time.time() - answered_at) if answered_at else None
    pairs = [pair for _, models in served_models(reports) for pair in models.items()]
    refused = {name: served.refused for name, served in pairs if served.refused}
    late = sorted({name for name, served in pairs if behind(served)})
    oldest_s = {lane.value: state.lanes[lane].oldest_waiting_s for lane in Lane}
    problems = []
    if not scoring:
        problems.append("no process scores" if node is None else f"no process of {node} scores")
    for lane, limit_s in ((Lane.ONLINE, online_s), (Lane.BULK, bulk_s)):
        age_s = oldest_s[lane.value]
        # A worker that answers is healthy, however long the queue is.
        is_busy = node is not None and answered_s is not None and answered_s < (limit_s or 0.0)
        if limit_s is not None and age_s is not None and age_s > limit_s and not is_busy:
            problems.append(f"the oldest request of lane {lane.value} has waited {age_s:.1f} s")
    answered = answered_models(reports)
    if len(answered) > 1:
        settings = " and ".join(setting or "all models" for setting in answered)
        problems.append(
            f"workers answer for different models, and share requests: {settings} (SCORELINE_MODELS)"
        )
    unloaded_count = unloaded(reports)
    if releases:
        if unloaded_count:
            problems.append(f"{unloaded_count} aliases are still to be loaded")
        problems += [f"{name}: refused: {reason}" for name, reason in refused.items()]
        problems += [f"{name}: a process does not serve the released version yet" for name in late]
    return Health(
        processes=len(scoring),
        oldest_s=oldest_s,
        answered_s=answered_s,
        refused=refused,
        behind=late,
        unloaded=unloaded_count,
        answered_models=answered,
        problems=problems,
    )


@command()
@click.option(
    "--oldest",
    "online_s",
    type=Seconds(min=0),
    default=30.0,
    show_default=True,
    help="Seconds that a request of the online lane may have waited untaken.",
)
@click.option(
    "--oldest-bulk",
    "bulk_s",
    type=Seconds(min=0),
    help="The same for the bulk lane; if not given, chunks may wait for any time.",
)
@click.option(
    "--node",
    help="Only of this worker, by its Celery node name (celery@HOST): it must report, and where requests "
    "wait for too long, have finished a batch in that time.",
)
@click.option(
    "--releases", is_flag=True, help="Also unhealthy while a released version is not served."
)
@json_option()
@click.pass_context
def health(
    ctx: click.Context,
    online_s: float,
    bulk_s: float | None,
    node: str | None,
    releases: bool,
    as_json: bool,
) -> None:
    """Say whether the queue is served, judged by its progress.

    The exit code is 0 if it is, 1 if processes report but requests wait for too long (or, with
    --releases, a version is refused or still being loaded), 3 if no process reports or Redis
    cannot be reached.

    \b
    Examples:
      scoreline health
      scoreline health --node celery@$HOSTNAME --oldest 300    # a liveness probe
      scoreline health --oldest 5 --releases --json
    """
    settings = ClientSettings.from_environment()
    settings.check_redis_url()
    try:
        with blocking_redis(
            settings.redis_url, socket_timeout=_REPLY_S, socket_connect_timeout=_REPLY_S
        ) as redis:
            state = read_state(redis, Keys(settings.queue))
    except (RedisError, ValueError) as error:
        raise server_error(error, settings) from error
    verdict = judge(state, node=node, online_s=online_s, bulk_s=bulk_s, releases=releases)
    if as_json:
        print_json(asdict(verdict))
    else:
        waits = ", ".join(f"{lane} {age:.1f} s" for lane, age in verdict.oldest_s.items() if age)
        say(f"{verdict.processes} processes score; oldest untaken request: {waits or 'none'}")
        for problem in verdict.problems:
            say(f"unhealthy: {problem}", in_line=True)
    if not verdict.processes:
        ctx.exit(SERVICE)
    if verdict.problems:
        ctx.exit(PARTLY)
