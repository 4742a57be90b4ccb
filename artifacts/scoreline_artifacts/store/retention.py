"""Which versions a store can do without, and how they leave it.

Kept is what may still be asked for: what an alias names, what a rollback would name, what was in force
not long ago (a job of many chunks is pinned to the version that it began with), what somebody pinned,
and the newest ones. A version leaves as it came: all of it at once.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from scoreline_artifacts.errors import (
    ArtifactError,
    PartlyPruned,
    UnknownModelError,
    UnknownVersionError,
)
from scoreline_artifacts.store import releases
from scoreline_artifacts.store.names import check_name, version_numbers
from scoreline_artifacts.store.releases import Release
from scoreline_artifacts.store.store import Store

KEEP = 5
IN_USE = timedelta(days=7)
"""A version that was in force within this time may still be asked for."""
ABANDONED = timedelta(days=1)
"""A publisher that has not finished after this time was killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What becomes of the versions of a model."""

    model: str
    kept: dict[int, list[str]]
    """Why each version stays."""
    removed: list[int]
    leftovers: list[str]
    """What killed publishers had left, by path."""


def plan(store: Store, model: str, *, keep: int = KEEP, now: datetime | None = None) -> Plan:
    """Say which versions would stay, and why, and which would go; changes nothing.

    Raises:
        UnknownModelError: there is no such model.
        UntrustedArtifact, CorruptArtifact: an alias's last release is not right, so nobody knows what
            it names.
    """
    versions = store.versions(model)
    if not versions:
        raise UnknownModelError(model, store.root, store.models())
    reasons = _reasons(store, model, versions[-keep:], now or datetime.now(UTC))
    kept = {version: reasons[version] for version in versions if version in reasons}
    return Plan(
        model=model,
        kept=kept,
        removed=[version for version in versions if version not in kept],
        leftovers=[],
    )


def prune(store: Store, model: str, *, keep: int = KEEP, now: datetime | None = None) -> Plan:
    """Remove the versions that nothing needs, and what killed publishers had left.

    Raises:
        PartlyPruned: some versions were removed before something failed.
        ArtifactError: as for `plan`, or the store refused it; nothing was removed.
    """
    now = now or datetime.now(UTC)
    planned = plan(store, model, keep=keep, now=now)
    removed: list[int] = []
    try:
        for version in planned.removed:
            # Somebody may have promoted it since.
            if version not in _named(store, model):
                store.backend.remove_version(model, version)
                removed.append(version)
        left = store.backend.remove_leftovers(model, before=(now - ABANDONED).timestamp())
    except ArtifactError as error:
        if not removed:
            raise
        raise PartlyPruned(model, removed, error) from error
    spared = {one: ["an alias names it by now"] for one in planned.removed if one not in removed}
    kept = dict(sorted({**planned.kept, **spared}.items()))
    return Plan(model=model, kept=kept, removed=removed, leftovers=left)


def pin(store: Store, model: str, version: int) -> None:
    """Keep a version, whatever happens, until it is unpinned.

    Raises:
        UnknownModelError, UnknownVersionError: it is not there.
    """
    versions = store.versions(model)
    if not versions:
        raise UnknownModelError(model, store.root, store.models())
    if version not in versions:
        raise UnknownVersionError(model, version, versions)
    if version in pins(store, model):
        return
    made = {"pinned_at": datetime.now(UTC).isoformat(timespec="seconds")}
    with contextlib.suppress(FileExistsError):
        store.backend.create(_pin(model, version), json.dumps(made).encode())


def unpin(store: Store, model: str, version: int) -> bool:
    """Keep a version no longer for its pin's sake; returns whether it had one."""
    pinned = version in pins(store, model)
    store.backend.remove(_pin(model, version))
    return pinned


def pins(store: Store, model: str) -> list[int]:
    """Numbers of the versions that are pinned, ascending."""
    names = store.backend.names(f"{check_name(model)}/pins")
    return version_numbers(name.removesuffix(".json") for name in names)


def _pin(model: str, version: int) -> str:
    return f"{check_name(model)}/pins/{int(version)}.json"


def _reasons(
    store: Store, model: str, newest: Sequence[int], now: datetime
) -> dict[int, list[str]]:
    reasons: dict[int, list[str]] = {}
    for alias in releases.aliases(store, model):
        # A release by a key that was revoked since needs no version: that key's are not loaded.
        log = releases.history(store, model, alias, trusted_only=True)
        for version, reason in _needed(alias, log, now):
            reasons.setdefault(version, []).append(reason)
    for version in pins(store, model):
        reasons.setdefault(version, []).append("it is pinned")
    for version in newest:
        reasons.setdefault(version, []).append(f"it is one of the newest {len(newest)}")
    return reasons


def _needed(alias: str, log: Sequence[Release], now: datetime) -> list[tuple[int, str]]:
    """Versions that an alias needs, with the reason; each once."""
    needed = {log[-1].version: f"{alias} names it"}
    number = releases.number_before(log[-1])
    for release in log:
        if release.sequence == number:
            needed.setdefault(release.version, f"a rollback of {alias} would name it")
    for release, following in pairwise(log):
        if now - _moment(following, now) < IN_USE:
            days = IN_USE.days
            reason = f"{alias} named it within the last {days} days: jobs may still ask for it"
            needed.setdefault(release.version, reason)
    return list(needed.items())


def _moment(release: Release, now: datetime) -> datetime:
    """When a release was made; one that does not say so counts as just made."""
    try:
        moment = datetime.fromisoformat(release.created_at)
    except ValueError:
        return now
    return moment if moment.tzinfo else now


def _named(store: Store, model: str) -> set[int]:
    found = (releases.current(store, model, alias) for alias in releases.aliases(store, model))
    return {release.version for release in found if release is not None}
