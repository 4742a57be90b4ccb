"""Which loaded version answers to a reference, and how a process moves to a new one.

Readers take one reference from a dictionary and keep it for their batch; the one writer at a time
prepares a version beside the old one and swaps it in with one assignment. A failed load changes
nothing but what is reported.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

from scoreline_artifacts import (
    ArtifactError,
    InvalidName,
    Release,
    Store,
    UnknownAliasError,
    UnknownModelError,
    UnknownVersionError,
    releases,
)
from scoreline_artifacts.high_water import HighWater
from scoreline_artifacts.loading import LoadedVersion, load
from scoreline_client.codes import Code
from scoreline_client.fleet import ServedModel
from scoreline_client.wire import ModelRef
from scoreline_tasks.scoring import RequestProblem

logger = logging.getLogger(__name__)

LOOK_AGAIN_S = 1.0
"""A reference that was not found is not looked for in the store again within this time."""


@dataclass(frozen=True, slots=True)
class Served:
    """What a process knows of one alias."""

    release: Release
    loaded: LoadedVersion | None
    refused: str | None = None

    def report(self) -> ServedModel:
        """The same for people and programs outside this process."""
        return ServedModel(
            serving=None if self.loaded is None else self.loaded.version,
            wanted=self.release.version,
            refused=self.refused,
        )


class Models:
    """The versions that this process has in memory."""

    def __init__(self, store: Store, max_versions: int, *, seen: HighWater | None = None) -> None:
        """`seen` remembers beyond this process how far release logs went; None: nothing does."""
        self._store = store
        self._seen = seen
        self._max_versions = max_versions
        self._served: dict[tuple[str, str], Served] = {}
        self._pinned: OrderedDict[tuple[str, int], LoadedVersion] = OrderedDict()
        self._refused: dict[tuple[str, int], str] = {}
        self._distrusted: dict[tuple[str, str], str] = {}
        self._missed: dict[str, float] = {}
        self._lock = threading.RLock()

    def resolve(self, ref: ModelRef) -> LoadedVersion:
        """The version that a reference names now, loading it if need be.

        Raises:
            RequestProblem: E_UNKNOWN_MODEL or E_NOT_LOADED.
        """
        if ref.alias is not None:
            served = self._served.get((ref.name, ref.alias))
            if served is not None and served.loaded is not None:
                return served.loaded
        elif ref.version is not None:
            found = self._in_memory(ref.name, ref.version)
            if found is not None:
                return found
        # Only what is not in memory waits for a version that is just being loaded.
        with self._lock:
            return self._resolve_slowly(ref)

    def follow(self) -> bool:
        """Look at every release log and move to what it names; returns whether anything changed."""
        with self._lock:
            # Every log is looked at, whatever the ones before it brought.
            changed = [self._follow_head(head) for head in releases.heads(self._store)]
            return any(changed)

    def report(self) -> dict[str, ServedModel]:
        """What is served under each `<model>@<alias>`."""
        reports = {f"{name}@{alias}": one.report() for (name, alias), one in self._served.items()}
        # Which version an alias names that cannot be trusted is not known.
        for (name, alias), reason in self._distrusted.copy().items():
            known = reports.get(f"{name}@{alias}")
            serving = None if known is None else known.serving
            reports[f"{name}@{alias}"] = ServedModel(serving=serving, wanted=None, refused=reason)
        return reports

    def add(self, loaded: LoadedVersion) -> None:
        """Serve a version that is in no store, under `production` and its number."""
        release = Release(
            model=loaded.model, alias="production", version=loaded.version, sequence=0
        )
        self._served[loaded.model, "production"] = Served(release, loaded)

    def _resolve_slowly(self, ref: ModelRef) -> LoadedVersion:
        if ref.alias is not None:
            return self._resolve_alias(ref, ref.alias)
        assert ref.version is not None  # noqa: S101 - a reference has one of the two
        key = (ref.name, ref.version)
        if key in self._refused:
            raise _not_loaded(ref, self._refused[key])
        found = self._in_memory(*key)
        if found is not None:
            return found
        self._guard_against_searching(ref)
        try:
            return self._load(*key)
        except (UnknownModelError, UnknownVersionError, InvalidName) as error:
            self._missed[str(ref)] = time.monotonic()
            raise RequestProblem(Code.UNKNOWN_MODEL, str(error)) from error
        except ArtifactError as error:
            raise _not_loaded(ref, str(error)) from error

    def _resolve_alias(self, ref: ModelRef, alias: str) -> LoadedVersion:
        served = self._served.get((ref.name, alias))
        if served is None:
            self._guard_against_searching(ref)
            try:
                self._follow_alias(ref.name, alias)
            except (UnknownModelError, UnknownAliasError, InvalidName) as error:
                self._missed[str(ref)] = time.monotonic()
                raise RequestProblem(Code.UNKNOWN_MODEL, str(error)) from error
            except ArtifactError as error:
                raise _not_loaded(ref, str(error)) from error
            served = self._served.get((ref.name, alias))
        if served is None and (ref.name, alias) in self._distrusted:
            raise _not_loaded(ref, self._distrusted[ref.name, alias])
        if served is None:
            self._missed[str(ref)] = time.monotonic()
            raise _unknown(ref)
        if served.loaded is None:
            raise _not_loaded(ref, served.refused or "it is being loaded")
        return served.loaded

    def _guard_against_searching(self, ref: ModelRef) -> None:
        """Wrong names must not make a worker search the store for every request."""
        missed = self._missed.get(str(ref))
        if missed is not None and time.monotonic() - missed < LOOK_AGAIN_S:
            raise _unknown(ref)
        if len(self._missed) > 10_000:
            self._missed.clear()

    def _follow_head(self, head: releases.Head) -> bool:
        key = (head.model, head.alias)
        known = self._served.get(key)
        if key not in self._distrusted and known and known.release.sequence == head.sequence:
            return False  # without a request to the store
        try:
            changed = self._follow_alias(head.model, head.alias)
            return self._distrusted.pop(key, None) is not None or changed
        # Whatever is wrong with one log, its alias keeps what it has and the others go on.
        except Exception as error:  # noqa: BLE001
            reason = f"{type(error).__name__}: {error}"
            news = self._distrusted.get(key) != reason
            self._distrusted[key] = reason
            if news:
                logger.error(  # noqa: TRY400 - the reason is what matters, not our stack
                    "log_refused alias=%s@%s: %s", head.model, head.alias, reason
                )
            return news

    def _follow_alias(self, model: str, alias: str) -> bool:
        release = releases.newest(self._store, model, alias, seen=self._seen)
        known = self._served.get((model, alias))
        if release is None or (known is not None and known.release.sequence >= release.sequence):
            return False
        served = self._move(release, known)
        self._served = {**self._served, (model, alias): served}
        return True

    def _move(self, release: Release, known: Served | None) -> Served:
        try:
            loaded = self._in_memory(release.model, release.version)
            loaded = loaded or self._load(release.model, release.version)
        # Whatever a version does while it is loaded, the one that serves goes on serving.
        except Exception as error:  # noqa: BLE001
            reason = f"{type(error).__name__}: {error}"
            self._refused[release.model, release.version] = reason
            fallback = self._fallback(release, known)
            logger.error(  # noqa: TRY400 - the reason is what matters, not our stack
                "version_refused model=%s version=%s serving=%s: %s",
                release.model,
                release.version,
                fallback and fallback.version,
                reason,
            )
            return Served(release, fallback, reason)
        logger.info("version_serves model=%s version=%s", release.model, release.version)
        return Served(release, loaded)

    def _fallback(self, release: Release, known: Served | None) -> LoadedVersion | None:
        """What serves when a release's version cannot: the one before it, newest first."""
        if known is not None and known.loaded is not None:
            return known.loaded
        log = releases.history(self._store, release.model, release.alias, trusted_only=True)
        for earlier in reversed(log):
            if (earlier.model, earlier.version) in self._refused:
                continue
            try:
                return self._load(earlier.model, earlier.version)
            # An older version that cannot be loaded either is noted like the first one.
            except Exception as error:  # noqa: BLE001
                self._refused[earlier.model, earlier.version] = str(error)
        return None

    def _in_memory(self, model: str, version: int) -> LoadedVersion | None:
        for served in self._served.values():
            loaded = served.loaded
            if loaded is not None and (loaded.model, loaded.version) == (model, version):
                return loaded
        if (model, version) in self._pinned:
            self._pinned.move_to_end((model, version))
        return self._pinned.get((model, version))

    def _load(self, model: str, version: int) -> LoadedVersion:
        loaded = load(self._store, model, version)
        self._pinned[model, version] = loaded
        while len(self._pinned) > self._max_versions:
            self._pinned.popitem(last=False)
        return loaded


def _unknown(ref: ModelRef) -> RequestProblem:
    what = f"version {ref.version}" if ref.alias is None else f"alias {ref.alias!r}"
    return RequestProblem(
        Code.UNKNOWN_MODEL,
        f"model {ref.name!r} with {what} is not in the artifact store; "
        f"`scoreline versions {ref.name}` lists what is",
    )


def _not_loaded(ref: ModelRef, reason: str) -> RequestProblem:
    return RequestProblem(Code.NOT_LOADED, f"{ref} is not served by this worker: {reason}")
