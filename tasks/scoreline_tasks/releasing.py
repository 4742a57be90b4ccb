"""Sends the news of a release, waits for the fleet, and says how it went."""

from __future__ import annotations

import re
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from redis import Redis, RedisError
from rich.console import Console
from rich.markup import escape

from scoreline_artifacts.store.releases import Release
from scoreline_client import fleet
from scoreline_client.cli.kit import INTERRUPTED, PARTLY, SERVICE, print_json
from scoreline_client.errors import SettingsError
from scoreline_client.protocol.keys import Keys
from scoreline_client.settings import ClientSettings
from scoreline_tasks.rollout import Rollout, follow, look

REDIS_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Announcement:
    """A release, and the one that was in force before; the same one if nothing has changed."""

    release: Release
    before: Release | None

    @property
    def changed(self) -> bool:
        """Whether the alias names another version now."""
        return self.release != self.before

    @property
    def previous(self) -> int | None:
        """The version that the alias named before."""
        return self.before.version if self.before else None


def connect(settings: ClientSettings) -> Redis:
    """The connection over which a release is announced, not opened yet.

    Raises:
        SettingsError: SCORELINE_REDIS_URL is no URL that can be connected to.
    """
    try:
        redis = Redis.from_url(
            settings.redis_url,
            socket_timeout=REDIS_TIMEOUT_S,
            socket_connect_timeout=REDIS_TIMEOUT_S,
        )
        # An option in the URL that does not exist is noticed only here; nothing is connected yet.
        redis.connection_pool.make_connection()
    except (ValueError, TypeError) as error:
        url = _without_password(settings.redis_url)
        raise SettingsError("SCORELINE_REDIS_URL", url, f"a Redis URL ({error})") from error
    return redis


def roll_out(
    announcement: Announcement,
    settings: ClientSettings,
    redis: Redis,
    timeout_s: float | None,
    as_json: bool,
) -> int:
    """Tell the workers, wait for them (not at all if `timeout_s` is None); gives the exit code.

    The release is in force when this begins, and whatever goes wrong here is reported beside that.
    """
    console = Console(quiet=as_json, highlight=False)
    console.print(_headline(announcement))
    rollout, error, exit_code = None, None, 0
    try:
        with redis:
            rollout = _follow(announcement.release, Keys(settings.queue), redis, timeout_s, console)
    except RedisError as failure:
        error = f"cannot reach Redis at {_without_password(settings.redis_url)}: {failure}"
        exit_code = SERVICE
    except KeyboardInterrupt:
        error, exit_code = "interrupted while waiting for the workers", INTERRUPTED
    # The boundary of the waiting: without this, a traceback would stand where the release should.
    except Exception as failure:  # noqa: BLE001
        error = f"the workers cannot be followed: {type(failure).__name__}: {failure}"
        exit_code = PARTLY
    if as_json:
        _print_json(announcement, rollout, error)
    if rollout is None:
        console.print(
            f"{escape(str(error))}. The release is made all the same: workers look for it every few "
            "seconds. See `scoreline status`."
        )
        return exit_code
    _explain(console, announcement.release, rollout, waited=timeout_s is not None)
    return 0 if rollout.complete or timeout_s is None else PARTLY


def _without_password(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url)


def _headline(announcement: Announcement) -> str:
    release = announcement.release
    name = f"{release.model}@{release.alias}"
    if not announcement.changed:
        return f"{name} is version {release.version} already"
    before = f" (was {announcement.previous})" if announcement.previous else ""
    return f"{name} is now version {release.version}{before}"


def _follow(
    release: Release, keys: Keys, redis: Redis, timeout_s: float | None, console: Console
) -> Rollout:
    start = Rollout(model=release.model, alias=release.alias, version=release.version)
    fleet.announce_release(redis, keys, release.model)
    if timeout_s is None:
        return look(redis, keys, start)
    with (
        console.status("waiting for the workers") if console.is_terminal else nullcontext() as live
    ):
        return follow(
            redis,
            keys,
            start,
            timeout_s,
            lambda now: live.update(_progress(now)) if live else None,
        )


def _progress(rollout: Rollout) -> str:
    return (
        f"{len(rollout.serving)} of {rollout.processes} worker processes serve "
        f"{rollout.model}@{rollout.version}"
    )


def _explain(console: Console, release: Release, rollout: Rollout, waited: bool) -> None:
    target = f"{release.model}@{release.version}"
    if not rollout.processes:
        console.print(f"no worker is running; workers serve {target} when they start")
    elif rollout.complete:
        console.print(
            f"all {rollout.processes} worker processes serve {target} ({rollout.seconds:.1f} s)"
        )
    elif not waited:
        console.print(f"told {rollout.processes} worker processes; not waiting for them")
    else:
        _explain_failure(console, release, rollout, target)


def _explain_failure(console: Console, release: Release, rollout: Rollout, target: str) -> None:
    console.print(_progress(rollout))
    for reason in dict.fromkeys(rollout.refusing.values()):
        names = [name for name, one in rollout.refusing.items() if one == reason]
        who = f"{names[0]} refuses" if len(names) == 1 else f"{', '.join(names)} refuse"
        console.print(f"  {escape(who)} it: {escape(reason)}")
    for name in rollout.waiting:
        console.print(f"  {escape(name)} has not moved within {rollout.seconds:.0f} s")
    if rollout.refusing:
        option = "" if release.alias == "production" else f" --alias {release.alias}"
        console.print(
            f"What served before {target} goes on serving there. "
            f"To go back everywhere: scoreline rollback {release.model}{option}"
        )
    else:
        console.print("They may still be loading it: see `scoreline status`.")


def _print_json(announcement: Announcement, rollout: Rollout | None, error: str | None) -> None:
    release = announcement.release
    said: dict[str, Any] = {
        "model": release.model,
        "alias": release.alias,
        "version": release.version,
        "previous": announcement.previous,
        "changed": announcement.changed,
    }
    if rollout is not None:
        said |= {
            "serving": rollout.serving,
            "refusing": rollout.refusing,
            "waiting": rollout.waiting,
            "seconds": round(rollout.seconds, 3),
        }
    if error is not None:
        said["error"] = error
    print_json(said, indent=2)
