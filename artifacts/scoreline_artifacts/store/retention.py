"""Retention: which versions of a model a store keeps, and the removal of the others.

A version is kept if requests may still name it: if an alias names it, a rollback would name it, it was in force
not long ago (a job of many chunks is pinned to the version that it began with), somebody pinned it, or it is one
of the newest. A version that is removed is not listed any more from the first step on.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from scoreline_artifacts.errors import (
    ArtifactError,
    CorruptArtifact,
    PartlyPruned,
    UnknownModelError,
    UntrustedArtifact,
)
from scoreline_artifacts.store import releases
from scoreline_artifacts.store.releases import Release
from scoreline_artifacts.store.storage import check_name, version_numbers
from scoreline_artifacts.store.store import Store

KEEP = 5
IN_USE = timedelta(days=7)
"""Requests may still ask for a version that was in force within this time."""
ABANDONED = timedelta(days=1)
"""A publisher that has not finished after this time was killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Which versions of a model stay, and which go."""

    model: str
    kept: dict[int, list[str]]
    """Why each version stays."""
    removed: list[int]
    leftovers: list[str]
    """Paths of the files that killed publishers left."""
    asked_for: list[int] = field(default_factory=list)
    """Of the removed ones, those that requests may still name by number."""


def plan(
    store: Store,
    model: str,
    *,
    keep: int = KEEP,
    older_than: timedelta | None = None,
    now: datetime | None = None,
) -> Plan:
    """Say which versions would stay, and why, and which would go; changes nothing.

    With `older_than`, the versions that were published or in force within that time stay, instead of those that were
    in force within IN_USE.

    Raises:
        UnknownModelError: there is no such model.
        UntrustedArtifact, CorruptArtifact: an alias's last release is invalid, so nobody knows what it
            names.
    """
    versions = store.versions(model)
    if not versions:
        raise UnknownModelError(model, store.root, store.models())
    reasons: dict[int, list[str]] = {version: [] for version in versions}
    now = now or datetime.now(UTC)
    within = IN_USE if older_than is None else older_than
    for alias in releases.aliases(store, model, whole=True):
        # A release by a revoked key keeps no version: what that key signed is not loaded.
        log = releases.recent(store, model, alias, now - within)
        for version, reason in needed_versions(alias, log, now, within).items():
            reasons.setdefault(version, []).append(reason)
    for version in pins(store, model):
        reasons.setdefault(version, []).append("it is pinned")
    for version in versions if older_than is not None else []:
        try:
            created_at = datetime.fromisoformat(store.verified(model, version).manifest.created_at)
            is_young = created_at >= now - within
        except (UntrustedArtifact, CorruptArtifact, ValueError, TypeError):
            reasons[version].append("its age is not known")
        else:
            if is_young:
                reasons[version].append(f"it was published within {in_words(within)}")
    newest = versions[-keep:]
    rank = f"one of the newest {len(newest)}" if len(newest) > 1 else "the newest"
    for version in newest:
        reasons[version].append(f"it is {rank}")
    removed = [version for version in versions if not reasons[version]]
    requested = in_use(store, model, now)
    return Plan(
        model=model,
        kept={version: reasons[version] for version in versions if reasons[version]},
        removed=removed,
        leftovers=[],
        asked_for=[version for version in removed if version in requested],
    )


def prune(
    store: Store,
    model: str,
    *,
    keep: int = KEEP,
    older_than: timedelta | None = None,
    now: datetime | None = None,
) -> Plan:
    """Remove the versions that nothing needs, and the files that killed publishers left; see `plan`.

    Raises:
        PartlyPruned: some versions were removed before something failed.
        ArtifactError: as for `plan`, or the store refused it; nothing was removed.
    """
    now = now or datetime.now(UTC)
    planned = plan(store, model, keep=keep, older_than=older_than, now=now)
    kept, removed = dict(planned.kept), list[int]()
    try:
        for version in planned.removed:
            # Somebody may have promoted it since.
            aliases = releases.aliases(store, model, whole=True)
            in_force = (releases.current(store, model, alias) for alias in aliases)
            if any(release and release.version == version for release in in_force):
                kept[version] = ["an alias names it by now"]
            else:
                store.storage.remove_version(model, version)
                removed.append(version)
        leftovers = store.storage.remove_leftovers(model, before=(now - ABANDONED).timestamp())
    except ArtifactError as error:
        if not removed:
            raise
        raise PartlyPruned(model, removed, error) from error
    return Plan(
        model=model,
        kept=dict(sorted(kept.items())),
        removed=removed,
        leftovers=leftovers,
        asked_for=[version for version in planned.asked_for if version in removed],
    )


def in_use(store: Store, model: str, now: datetime) -> dict[int, str]:
    """The versions that requests may name by number: those in force now, not long ago or after a rollback, and those
    that are pinned; each with the sha256 of its manifest, as its last release names it, else an empty text.

    An alias whose last release is invalid is passed over.
    """
    sha256s = dict.fromkeys(pins(store, model), "")
    for alias in releases.aliases(store, model):
        with contextlib.suppress(CorruptArtifact, UntrustedArtifact):
            log = releases.recent(store, model, alias, now - IN_USE)
            needed = needed_versions(alias, log, now)
            sha256s |= {
                release.version: release.manifest_sha256
                for release in log
                if release.version in needed
            }
    return sha256s


def needed_versions(
    alias: str, log: Sequence[Release], now: datetime, within: timedelta = IN_USE
) -> dict[int, str]:
    """Versions that an alias with this log needs, each with the reason: also those in force `within` this time."""
    needed = {log[-1].version: f"{alias} names it"}
    number = releases.number_before(log[-1])
    for release in log:
        if release.sequence == number:
            needed.setdefault(release.version, f"a rollback of {alias} would name it")
    for release, following in pairwise(log):
        if not following.was_made_before(now - within):
            reason = f"{alias} named it within the last {in_words(within).removeprefix('1 ')}: jobs may still ask for it"
            needed.setdefault(release.version, reason)
    return needed


def in_words(time: timedelta) -> str:
    """A span of time, such as `7 days`."""
    hours = time.total_seconds() / 3600
    if hours >= 48:
        return f"{hours / 24:g} days"
    return "1 hour" if hours == 1 else f"{hours:g} hours"


def pin(store: Store, model: str, version: int) -> None:
    """Keep a version until it is unpinned.

    Raises:
        UnknownModelError, UnknownVersionError: there is no such version.
    """
    if version not in store.versions(model):
        raise store.unknown(model, version)
    if version in pins(store, model):
        return
    pinned_at = datetime.now(UTC).isoformat(timespec="seconds")
    with contextlib.suppress(FileExistsError):
        store.storage.create(_pin(model, version), json.dumps({"pinned_at": pinned_at}).encode())


def unpin(store: Store, model: str, version: int) -> bool:
    """Remove the pin of a version; returns whether it had one."""
    pinned = version in pins(store, model)
    store.storage.remove(_pin(model, version))
    return pinned


def pins(store: Store, model: str) -> list[int]:
    """Numbers of the versions that are pinned, ascending."""
    names = store.storage.names(f"{check_name(model)}/pins")
    return version_numbers(name.removesuffix(".json") for name in names)


def _pin(model: str, version: int) -> str:
    return f"{check_name(model)}/pins/{int(version)}.json"
