"""Which loaded version answers to a reference, and how a process moves to a new one.

Readers take one reference from a dictionary and keep it for their batch; the one writer at a time
prepares a version beside the old one and swaps it in with one assignment. A failed load changes
nothing but what is reported.

Of an alias that is followed there are two versions in memory at the most: the one in force, and for
a while the one before it, which running jobs are pinned to. The one before is let go first when a
third is to be loaded.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from scoreline_artifacts import (
    ArtifactError,
    InvalidName,
    Release,
    Store,
    UnknownAliasError,
    UnknownModelError,
    UnknownVersionError,
)
from scoreline_artifacts.loading.version import LoadedVersion, load
from scoreline_artifacts.store import releases
from scoreline_artifacts.store.rollback_protection import HighWater
from scoreline_client.codes import Code
from scoreline_client.fleet import ServedModel
from scoreline_client.protocol.messages import ModelRef
from scoreline_tasks.models.isolated_load import TrialFailed, explain
from scoreline_tasks.models.load_backoff import Refusals
from scoreline_tasks.scoring.predict import RequestProblem
from scoreline_tasks.system.forks import no_fork, renew_in_forks
from scoreline_tasks.system.memory import trim

logger = logging.getLogger(__name__)

LOOK_AGAIN_S = 1.0
"""A reference that was not found is not looked for in the store again within this time."""
PREVIOUS_KEPT_S = 60.0
"""Seconds for which the version before the one in force stays in memory when nobody asks for it."""
_UNKNOWN = (UnknownModelError, UnknownAliasError, UnknownVersionError, InvalidName)


@dataclass(frozen=True, slots=True)
class Served:
    """What a process knows of one alias."""

    release: Release | None
    """The newest release that could be read."""
    loaded: LoadedVersion | None
    previous: LoadedVersion | None = None
    refused: str | None = None
    """Why the release's version is not the one that serves."""
    unreadable: str | None = None
    """Why the release in force cannot be told."""

    def report(self) -> ServedModel:
        """The same for people and programs outside this process."""
        known = self.release is not None and self.unreadable is None
        return ServedModel(
            serving=None if self.loaded is None else self.loaded.version,
            wanted=self.release.version if known and self.release else None,
            refused=self.unreadable or self.refused,
            resident=[one.version for one in (self.loaded, self.previous) if one is not None],
        )


class Models:
    """The versions that this process has in memory."""

    def __init__(
        self,
        store: Store,
        max_versions: int,
        *,
        seen: HighWater | None = None,
        strict: bool = False,
        prove: Callable[[Store, str, int], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open what a store has released; nothing is loaded yet.

        `seen` remembers beyond this process how far release logs went; `prove` raises if a version
        must not be loaded in this process, and is asked once about each.
        """
        self._store = store
        self._strict = strict
        self._seen = seen
        self._max_versions = max_versions
        self._prove = prove
        self._proven: set[tuple[str, int]] = set()
        self._clock = clock
        self._served: dict[tuple[str, str], Served] = {}
        self._asked: OrderedDict[tuple[str, int], LoadedVersion] = OrderedDict()
        self._previous_used: dict[tuple[str, int], float] = {}
        self._refusals = Refusals(clock)
        self._missed: dict[str, float] = {}
        self._lock = threading.RLock()
        renew_in_forks(self)

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
            changed = [self._follow_safely(head) for head in releases.heads(self._store)]
            return any(changed)

    def let_go(self) -> None:
        """Forget versions before the ones in force that nobody has asked for in a while."""
        if not self._lock.acquire(blocking=False):
            return  # something is being loaded; the next call comes soon
        try:
            idle = [key for key, one in self._served.items() if self._is_idle(one.previous)]
            for key in idle:
                self._put(key, replace(self._served[key], previous=None))
        finally:
            self._lock.release()
        if idle:
            trim()

    def serving(self) -> dict[tuple[str, str], int]:
        """The version that answers, by model and alias."""
        return {
            key: one.loaded.version for key, one in self._served.items() if one.loaded is not None
        }

    def report(self) -> dict[str, ServedModel]:
        """What is served under each `<model>@<alias>`."""
        return {f"{name}@{alias}": one.report() for (name, alias), one in self._served.items()}

    def add(self, loaded: LoadedVersion) -> None:
        """Serve a version that is in no store, under `production` and its number."""
        release = Release(
            model=loaded.model, alias="production", version=loaded.version, sequence=0
        )
        self._put((loaded.model, "production"), Served(release, loaded))

    def forked(self) -> None:
        """In a child of this process: the thread that may have held the lock is not there."""
        self._lock = threading.RLock()

    def _resolve_slowly(self, ref: ModelRef) -> LoadedVersion:
        try:
            if ref.alias is not None:
                return self._resolve_alias(ref, ref.alias)
            assert ref.version is not None  # noqa: S101 - a reference has one of the two
            return self._resolve_version(ref, ref.version)
        except _UNKNOWN as error:
            self._missed[str(ref)] = self._clock()
            raise RequestProblem(Code.UNKNOWN_MODEL, str(error)) from error
        except ArtifactError as error:
            raise _not_loaded(ref, str(error)) from error

    def _resolve_version(self, ref: ModelRef, version: int) -> LoadedVersion:
        reason = self._refusals.reason(ref.name, version)
        if reason is not None:
            raise _not_loaded(ref, reason)
        loaded = self._in_memory(ref.name, version)
        if loaded is None:
            self._guard_against_searching(ref)
            loaded = self._load_asked(ref, version)
        return loaded

    def _load_asked(self, ref: ModelRef, version: int) -> LoadedVersion:
        try:
            loaded = self._load(ref.name, version)
        except (TrialFailed, ArtifactError) as error:
            if not isinstance(error, _UNKNOWN):
                self._refusals.note(ref.name, version, explain(error))
            if isinstance(error, ArtifactError):
                raise
            raise _not_loaded(ref, str(error)) from error
        self._asked[ref.name, version] = loaded
        while len(self._asked) > self._max_versions:
            self._asked.popitem(last=False)
        return loaded

    def _resolve_alias(self, ref: ModelRef, alias: str) -> LoadedVersion:
        served = self._served.get((ref.name, alias))
        if served is None:
            self._guard_against_searching(ref)
            self._follow_alias(ref.name, alias)
            served = self._served.get((ref.name, alias))
        if served is None:
            self._missed[str(ref)] = self._clock()
            raise _unknown(ref)
        if served.loaded is None:
            raise _not_loaded(ref, served.unreadable or served.refused or "it is being loaded")
        return served.loaded

    def _guard_against_searching(self, ref: ModelRef) -> None:
        """Wrong names must not make a worker search the store for every request."""
        missed = self._missed.get(str(ref))
        if missed is not None and self._clock() - missed < LOOK_AGAIN_S:
            raise _unknown(ref)
        if len(self._missed) > 10_000:
            self._missed.clear()

    def _follow_safely(self, head: releases.Head) -> bool:
        model, alias = head.model, head.alias
        if self._is_served(head):
            return False  # without a request to the store
        try:
            return self._follow_alias(model, alias)
        # One log that cannot be read keeps no other alias from moving; what serves serves on.
        except Exception as error:  # noqa: BLE001
            reason = explain(error)
        known = self._served.get((model, alias), Served(None, None))
        if known.unreadable == reason:
            return False
        logger.error(
            "log_refused alias=%s@%s serving=%s: %s",
            model,
            alias,
            known.loaded and known.loaded.version,
            reason,
        )
        self._put((model, alias), replace(known, unreadable=reason))
        return True

    def _is_served(self, head: releases.Head) -> bool:
        """Whether what the log ends with is in force here, and nothing is to be tried again."""
        known = self._served.get((head.model, head.alias))
        if known is None or known.release is None or known.unreadable or known.refused:
            return False
        return known.loaded is not None and known.release.sequence == head.sequence

    def _follow_alias(self, model: str, alias: str) -> bool:
        release = releases.newest(self._store, model, alias, seen=self._seen)
        if release is None or self._is_behind(release):
            return False
        changed = self._stay(release)
        if changed is None:
            self._put((model, alias), self._move(release))
            return True
        return changed

    def _is_behind(self, release: Release) -> bool:
        """Whether this process has read a later release already; versions never go back by mistake."""
        known = self._served.get((release.model, release.alias))
        newest = None if known is None else known.release
        return newest is not None and release.sequence < newest.sequence

    def _stay(self, release: Release) -> bool | None:
        """Stay with what serves if the release changes nothing, or its version is not to be tried yet.

        Returns whether there is anything new to report; None if there is something to load.
        """
        known = self._served.get((release.model, release.alias))
        if known is None or known.release != release:
            return None
        serves = known.loaded is not None and known.loaded.version == release.version
        reason = None if serves else self._refusals.reason(release.model, release.version)
        if not serves and reason is None:
            logger.debug("version_tried model=%s version=%s", release.model, release.version)
            return None
        now = replace(known, refused=reason, unreadable=None)
        self._put((release.model, release.alias), now)
        return now != known

    def _make_way(self, release: Release) -> Served:
        """Say which version is wanted, and let go of the one before the one that serves.

        Nothing else may hold on to that one here: it is to be gone before the next is loaded.
        """
        key = (release.model, release.alias)
        known = self._served.get(key, Served(None, None))
        if known.previous is not None and known.previous.version != release.version:
            known = replace(known, previous=None)
        loading = replace(known, release=release, refused=None, unreadable=None)
        self._put(key, loading)
        return loading

    def _move(self, release: Release) -> Served:
        """Bring a release's version into force if that is possible."""
        known = self._make_way(release)
        reason = self._refusals.reason(release.model, release.version)
        news = False
        if reason is None:
            try:
                loaded = self._in_memory(release.model, release.version)
                loaded = loaded or self._load(release.model, release.version)
            # Whatever a version does while it is loaded, the one that serves goes on serving.
            except Exception as error:  # noqa: BLE001
                reason = explain(error)
                news = self._refusals.note(release.model, release.version, reason)
            else:
                return self._accept(release, loaded, known.loaded)
        fallback = known.loaded or self._fallback(release)
        if news:
            logger.error(
                "version_refused model=%s version=%s serving=%s: %s",
                release.model,
                release.version,
                fallback and fallback.version,
                reason,
            )
        return replace(known, loaded=fallback, refused=reason)

    def _accept(
        self, release: Release, loaded: LoadedVersion, before: LoadedVersion | None
    ) -> Served:
        key = (release.model, release.version)
        self._refusals.forget(*key)
        # From now on it is in memory for the alias, and for no longer than the alias needs it.
        self._asked.pop(key, None)
        previous = before if before is not None and before.version != loaded.version else None
        if previous is not None:
            self._note_use(previous)
        logger.info("version_serves model=%s version=%s", *key)
        return Served(release, loaded, previous)

    def _fallback(self, release: Release) -> LoadedVersion | None:
        """What serves when a release's version cannot: the newest one before it that can be loaded."""
        log = releases.history(self._store, release.model, release.alias, trusted_only=True)
        for earlier in reversed(log):
            if self._refusals.reason(earlier.model, earlier.version) is not None:
                continue
            try:
                loaded = self._in_memory(earlier.model, earlier.version)
                return loaded or self._load(earlier.model, earlier.version)
            # An older version that cannot be loaded either is noted like the first one.
            except Exception as error:  # noqa: BLE001
                self._refusals.note(earlier.model, earlier.version, explain(error))
        return None

    def _in_memory(self, model: str, version: int) -> LoadedVersion | None:
        for served in self._served.values():
            for loaded in (served.loaded, served.previous):
                if loaded is not None and (loaded.model, loaded.version) == (model, version):
                    if loaded is served.previous:
                        self._note_use(loaded)
                    return loaded
        asked = self._asked.get((model, version))
        if asked is not None:
            with suppress(KeyError):  # another thread has just let go of it
                self._asked.move_to_end((model, version))
        return asked

    def _load(self, model: str, version: int) -> LoadedVersion:
        # First, in this process: that there is no such version, or that its manifest is no good.
        self._store.manifest(model, version)
        if self._prove is not None and (model, version) not in self._proven:
            self._prove(self._store, model, version)
            self._proven.add((model, version))
        with no_fork():
            return load(self._store, model, version, strict=self._strict)

    def _put(self, key: tuple[str, str], served: Served) -> None:
        self._served = {**self._served, key: served}

    def _note_use(self, loaded: LoadedVersion) -> None:
        self._previous_used[loaded.model, loaded.version] = self._clock()

    def _is_idle(self, loaded: LoadedVersion | None) -> bool:
        if loaded is None:
            return False
        used = self._previous_used.get((loaded.model, loaded.version), float("-inf"))
        return self._clock() - used > PREVIOUS_KEPT_S


def _unknown(ref: ModelRef) -> RequestProblem:
    what = f"version {ref.version}" if ref.alias is None else f"alias {ref.alias!r}"
    return RequestProblem(
        Code.UNKNOWN_MODEL,
        f"model {ref.name!r} with {what} is not in the artifact store; "
        f"`scoreline versions {ref.name}` lists what is",
    )


def _not_loaded(ref: ModelRef, reason: str) -> RequestProblem:
    return RequestProblem(Code.NOT_LOADED, f"{ref} is not served by this worker: {reason}")
