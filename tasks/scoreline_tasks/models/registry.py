"""Which loaded version answers to a reference, and how a process switches to a new one.

Readers take one reference from a dictionary and keep it for their batch. One writer at a time loads a
version beside the old one and publishes it with one assignment. A failed load changes only the report.

Of an alias that is followed at most two versions are in memory: the serving version, and for a while the
previous version, to which running jobs are pinned. The older is dropped before a third is loaded.

A main process whose children serve unpickles versions and scores nothing: whatever scoring starts, such as
threads, would be missing in the children that it forks later. A version for which unpickling alone is too
much (its trial says so) is a `DeferredVersion` there, and each child loads it for itself.

A process that serves loads nothing while requests wait for its drain: what is not in memory is loaded aside, and
the requests for it are postponed.

A store may have hundreds of released models. Those that a worker is to answer (SCORELINE_MODELS) are loaded some at a
time: what requests name comes first, and waits for one load at the most.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Generic, TypeVar

from scoreline_artifacts import (
    ArtifactError,
    InvalidName,
    Release,
    Store,
    UnknownAliasError,
    UnknownModelError,
    UnknownVersionError,
)
from scoreline_artifacts.loading.artifact import load_unproven
from scoreline_artifacts.loading.process_settings import exclusively
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_artifacts.store import releases, retention
from scoreline_artifacts.store.identity import address_of
from scoreline_artifacts.store.marks import LogMarks
from scoreline_artifacts.store.signing import key_folders
from scoreline_client.codes import Code
from scoreline_client.errors import RequestRefused, ScorelineError
from scoreline_client.fleet import ServedModel
from scoreline_client.protocol.messages import ModelRef
from scoreline_client.shown import shown_name, without_places
from scoreline_tasks.models.aside import LoadsAside
from scoreline_tasks.models.isolated_load import (
    IsolatedLoadFailed,
    LoadBackoff,
    TrialResult,
    reason_text,
)
from scoreline_tasks.system import fork_guard, in_own_thread, renew_in_forks, trim

logger = logging.getLogger(__name__)

_Content = TypeVar("_Content")

UNKNOWN_FOR_S = 1.0
"""Seconds for which the store is not read again for an unknown name, unless the request came after the last look: what
it names may just have been released."""
LOOK_EVERY_S, LOOK_SHARE = 0.05, 20
"""Between two looks at the store for such requests: at least so many seconds, and so many times as long as one look
took, up to UNKNOWN_FOR_S."""
UNKNOWN_KEPT = 10_000
VAIN_SEARCHES = 20
"""Searches in a second that may fail, for versions that no release names; then no more are begun."""
PREVIOUS_KEPT_S = 60.0
"""Seconds for which the previous version stays in memory without a request for it."""
_UNKNOWN = (UnknownModelError, UnknownAliasError, UnknownVersionError, InvalidName)


@dataclass(frozen=True, slots=True)
class DeferredVersion:
    """A version that each process that serves loads for itself, and that this process has not loaded."""

    model: str
    version: int
    reason: str
    manifest_sha256: str = ""


AnyVersion = LoadedVersion | DeferredVersion


@dataclass(slots=True)
class PreviousVersion:
    """The version that was in force before, and when it was used last."""

    loaded: AnyVersion
    used_at: float


@dataclass(frozen=True, slots=True)
class Served:
    """The state of one alias in this process."""

    release: Release | None = None
    """The newest release that could be read."""
    loaded: AnyVersion | None = None
    """The version that answers."""
    previous: PreviousVersion | None = None
    refused: str | None = None
    """Why the release's version does not answer."""
    unreadable: str | None = None
    """Why the release in force is unknown."""

    def report(self) -> ServedModel:
        """This state as a worker process reports it."""
        is_readable = self.release is not None and self.unreadable is None
        in_memory = (self.loaded, None if self.previous is None else self.previous.loaded)
        return ServedModel(
            serving=self.loaded.version if isinstance(self.loaded, LoadedVersion) else None,
            wanted=self.release.version if is_readable and self.release else None,
            refused=self.unreadable or self.refused,
            resident=[loaded.version for loaded in in_memory if isinstance(loaded, LoadedVersion)],
            deferred=self.loaded.reason if isinstance(self.loaded, DeferredVersion) else None,
        )


@dataclass(frozen=True, slots=True)
class _Look(Generic[_Content]):
    """What the store had when it was looked at."""

    at: float
    seconds: float
    content: _Content

    @classmethod
    def again(
        cls,
        last: _Look[_Content] | None,
        look: Callable[[], _Content],
        clock: Callable[[], float],
        asked_at: float,
    ) -> _Look[_Content]:
        """The last look, if it is not old and not from before `asked_at`; else another, after a pause if need be."""
        now = clock()
        if last is not None and now - last.at < UNKNOWN_FOR_S:
            if last.at >= asked_at:
                return last
            pause = min(UNKNOWN_FOR_S, max(LOOK_EVERY_S, LOOK_SHARE * last.seconds))
            time.sleep(max(0.0, last.at + pause - now))
        started = clock()
        content = look()
        return cls(started, clock() - started, content)


class Models:
    """The versions that this process has in memory."""

    def __init__(
        self,
        store: Store,
        max_versions: int,
        *,
        seen: LogMarks | None = None,
        strict: bool = False,
        prove: Callable[[Store, str, int], TrialResult] | None = None,
        forks: bool = False,
        unreleased: bool = True,
        only: Sequence[str] = (),
        asked: set[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare to serve a store's releases; nothing is loaded yet.

        `seen` remembers beyond this process how far release logs went. `prove` raises if a version must
        not be loaded in this process; it is called once for each version. `forks` says that this process
        scores nothing, and that others are forked from it which do. `unreleased` lets requests name any version by
        its number, not only those that are or were released. `only` names the models that are served, as patterns
        of fnmatch; empty for all. `asked` has the models of which other processes of this worker have needed a
        version: they are loaded first.
        """
        self._unreleased = unreleased
        self.store = shown_name(str(address_of(store.storage)))
        """Where the versions come from, as it may be shown."""
        self.store_id = ""
        """The identity of the store; empty while it has none, or none that could be read."""
        self.only = only
        """Patterns of the models that are served; empty for all."""
        self.idle: list[str] = []
        """The patterns that no released model fitted when `follow` looked last."""
        self._wanted = set() if asked is None else asked
        self._store = store
        self._strict = strict
        self._seen = seen
        self._max_versions = max_versions
        self._prove = prove
        self._clock = clock
        self._served: dict[tuple[str, str], Served] = {}
        self._requested: OrderedDict[tuple[str, int], LoadedVersion] = OrderedDict()
        """Versions that requests have named by number, the last used at the end."""
        self._trials: dict[tuple[str, int], TrialResult] = {}
        self._forks = forks
        self._aside: tuple[LoadsAside, LoadsAside] | None = None
        """For aliases, which come first, and for versions by number."""
        self._backoff = LoadBackoff(clock)
        self._unknown: dict[str, float] = {}
        """When each reference was last searched for in vain."""
        self._vain_until, self._vain_searches = 0.0, 0
        """The end of a second, and how many searches in it were in vain."""
        self._heads: _Look[set[tuple[str, str]]] | None = None
        """The last look for an unknown name: the models and aliases that the store had."""
        self._in_use: dict[str, _Look[dict[int, str]]] = {}
        """The same for the versions of a model that may be named by number."""
        self.unloaded = 0
        """Aliases that `follow` has not come to yet."""
        self._lock = threading.RLock()
        self._turn = threading.Lock()
        """Held by the thread that gets the lock next: else a thread that releases the lock and takes it again keeps all
        others out."""
        renew_in_forks(self)

    def resolve(self, ref: ModelRef, asked_at: float = -math.inf) -> LoadedVersion:
        """The version that a reference names now.

        Whether there is one depends on what was released by `asked_at`, when the request came, or later.

        Raises:
            VersionIsLoading: it is loaded aside, see `load_aside`. Without that it is loaded here and now.
            RequestRefused: E_UNKNOWN_MODEL or E_NOT_LOADED.
        """
        if ref.alias is not None:
            served = self._served.get((ref.name, ref.alias))
            if served is not None and isinstance(served.loaded, LoadedVersion):
                return served.loaded
        elif ref.version is not None:
            loaded = self._in_memory(ref.name, ref.version)
            if loaded is not None:
                return loaded
        if not self._is_served_here(ref.name):
            raise RequestRefused(
                Code.UNKNOWN_MODEL,
                f"no worker of this queue serves model {ref.name!r}: it is none of those that SCORELINE_MODELS "
                "names for them",
            )
        if self._aside is not None:
            self._aside[ref.alias is None].ask(ref, asked_at)
        return self._find(ref, asked_at)

    def _is_served_here(self, model: str) -> bool:
        return not self.only or any(fnmatchcase(model, pattern) for pattern in self.only)

    def load_aside(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """In a process that serves: from now on load in threads of their own, first what was deferred to it.

        `on_ready` is called when that is done.
        """
        self._aside = (LoadsAside(self._find, self._clock), LoadsAside(self._find, self._clock))
        deferred = [
            ModelRef(name=model, alias=alias)
            for (model, alias), served in self._served.items()
            if isinstance(served.loaded, DeferredVersion)
        ]
        if not deferred:
            on_ready()
            return

        def load_deferred() -> None:
            for ref in deferred:
                try:
                    self._find(ref)
                except RequestRefused:
                    pass  # it is in the report
                # Mostly a store that is away; the first request for it looks again.
                except Exception:
                    logger.exception("version_not_loaded model=%s: requests for it load it", ref)
            on_ready()

        threading.Thread(target=load_deferred, name="scoreline-deferred", daemon=True).start()

    def _find(self, ref: ModelRef, asked_at: float = -math.inf) -> LoadedVersion:
        """The version that a reference names in the store at `asked_at` or later, loaded if need be.

        Raises:
            RequestRefused: E_UNKNOWN_MODEL or E_NOT_LOADED.
        """
        try:
            if ref.version is not None:
                # Without the lock: a release does not wait until it is loaded.
                return self._resolve_version(ref, ref.version, asked_at)
            assert ref.alias is not None  # noqa: S101 - a reference has one of the two
            key = (ref.name, ref.alias)
            if key not in self._served and key not in self._known_names():
                self._known_names(asked_at)
            with self._next_turn():
                return self._resolve_alias(ref, ref.alias)
        except _UNKNOWN as error:
            now = self._clock()
            self._unknown[str(ref)] = now
            if now >= self._vain_until:
                self._vain_until, self._vain_searches = now + UNKNOWN_FOR_S, 0
            self._vain_searches += 1
            if isinstance(error, UnknownModelError):
                # Its text names the store and all models in it, which a caller need not know.
                raise _unknown(ref) from error
            raise RequestRefused(Code.UNKNOWN_MODEL, str(error)) from error
        except ArtifactError as error:
            raise self._not_loaded(ref, str(error)) from error

    def _not_loaded(self, ref: ModelRef, reason: str) -> RequestRefused:
        """The refusal for a caller, who need not know where store and keys are; the log has the whole reason."""
        locations = (self.store, str(self._store.storage.root), *map(str, key_folders()))
        message = without_places(reason, locations)
        if message != reason:
            message += " (The worker's log has the whole message.)"
        return RequestRefused(Code.NOT_LOADED, f"{ref} is not served by this worker: {message}")

    def follow(self, within_s: float = math.inf, few: int = 0) -> bool:
        """Read the release logs and switch to the versions that they name; returns whether any state changed.

        One alias is followed in any case, and so are the last `few`; no other one is begun after `within_s` seconds:
        `unloaded` says how many aliases are left for the next call of which nothing is known yet.
        """
        until = self._clock() + within_s
        changed = False
        if not self.store_id:
            with suppress(ScorelineError):  # the releases say what is wrong
                self.store_id = self._store.identity_id()
        heads = releases.heads(self._store)
        self.idle = [
            pattern
            for pattern in self.only
            if not any(fnmatchcase(head.model, pattern) for head in heads)
        ]
        pending = [
            head
            for head in heads
            if self._is_served_here(head.model) and not self._is_settled(head)
        ]

        def urgency(head: releases.Head) -> tuple[bool, bool]:
            # Models that requests name, then aliases that move or are tried again, then those not needed yet.
            return head.model not in self._wanted, (head.model, head.alias) not in self._served

        while pending:
            head = min(pending, key=urgency)
            pending.remove(head)
            with self._next_turn():
                changed |= self._follow_head(head)
            self._wanted.discard(head.model)
            if self._clock() >= until and len(pending) > few:
                break
        self.unloaded = sum((head.model, head.alias) not in self._served for head in pending)
        return changed

    def _is_settled(self, head: releases.Head) -> bool:
        """Whether the newest release of an alias is in force here; known without a request to the store."""
        state = self._served.get((head.model, head.alias), Served())
        is_serving = state.loaded is not None and not state.unreadable and not state.refused
        return is_serving and state.release is not None and state.release.sequence == head.sequence

    @contextmanager
    def _next_turn(self) -> Iterator[None]:
        """Hold the lock, next after whoever holds it now."""
        with self._turn:
            self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()

    def evict_idle(self) -> None:
        """Drop previous versions that no request has named for PREVIOUS_KEPT_S."""
        if not self._lock.acquire(blocking=False):
            return  # a version is being loaded; the next call comes soon
        try:
            oldest = self._clock() - PREVIOUS_KEPT_S
            idle = [
                key
                for key, served in self._served.items()
                if served.previous is not None and served.previous.used_at < oldest
            ]
            for key in idle:
                self._publish_state(key, replace(self._served[key], previous=None))
        finally:
            self._lock.release()
        if idle:
            trim()

    def serving(self) -> dict[tuple[str, str], int]:
        """The version that answers, by model and alias."""
        return {
            key: served.loaded.version
            for key, served in self._served.items()
            if served.loaded is not None
        }

    def report(self) -> dict[str, ServedModel]:
        """The state of each `<model>@<alias>`."""
        return {
            f"{model}@{alias}": served.report() for (model, alias), served in self._served.items()
        }

    def add(self, loaded: LoadedVersion) -> None:
        """Serve a version that is in no store, under `production` and its number."""
        release = Release(
            model=loaded.model, alias="production", version=loaded.version, sequence=0
        )
        self._publish_state((loaded.model, "production"), Served(release, loaded))

    def forked(self) -> None:
        """In a child of this process: the threads that load and may hold the lock do not exist here."""
        self._lock = threading.RLock()
        self._turn = threading.Lock()
        self.unloaded = 0  # its main process follows the releases
        self._forks = False
        self._aside = None

    def _resolve_alias(self, ref: ModelRef, alias: str) -> LoadedVersion:
        key = (ref.name, alias)
        if key not in self._served:
            if key not in self._known_names():
                raise _unknown(ref)
            self._follow_alias(ref.name, alias)
        served = self._served.get(key)
        if served is None:
            raise _unknown(ref)
        if served.loaded is None and not served.unreadable and not served.refused:
            # This process was forked from one that was about to load it.
            self._follow_alias(ref.name, alias)
            served = self._served[key]
        if isinstance(served.loaded, DeferredVersion):
            served = self._load_deferred(key, served, served.loaded)
        if not isinstance(served.loaded, LoadedVersion):
            reason = served.unreadable or served.refused
            raise self._not_loaded(ref, reason or "no version of it could be loaded")
        return served.loaded

    def _load_deferred(
        self, key: tuple[str, str], served: Served, deferred: DeferredVersion
    ) -> Served:
        """In a process that serves: load a version that its main process has not loaded; returns the new state."""
        version = (deferred.model, deferred.version)
        reason = self._backoff.reason(*version)
        if reason is None:
            try:
                sha256 = deferred.manifest_sha256
                loaded = self._in_memory(*version, sha256) or self._load(*version, sha256)
                served = replace(served, loaded=loaded, refused=None)
            # Whatever it raises is the reason why this process cannot serve it.
            except Exception as error:  # noqa: BLE001
                reason = reason_text(error)
                self._backoff.note(*version, reason)
        if reason is not None:
            logger.error("version_refused model=%s version=%s: %s", *version, reason)
            served = replace(served, refused=reason)
        self._publish_state(key, served)
        return served

    def _resolve_version(self, ref: ModelRef, version: int, asked_at: float) -> LoadedVersion:
        reason = self._backoff.reason(ref.name, version)
        if reason is not None:
            raise self._not_loaded(ref, reason)
        in_memory = self._in_memory(ref.name, version)
        if in_memory is not None:
            return in_memory
        sha256 = self._sha256_of(ref, version, asked_at)
        try:
            loaded = self._load(ref.name, version, sha256)
        except _UNKNOWN:
            raise
        except (IsolatedLoadFailed, ArtifactError) as error:
            self._backoff.note(ref.name, version, reason_text(error))
            logger.warning("version_refused model=%s version=%s: %s", ref.name, version, error)
            raise self._not_loaded(ref, str(error)) from error
        assert isinstance(loaded, LoadedVersion)  # noqa: S101 - a process that forks answers nobody
        self._requested[ref.name, version] = loaded
        while len(self._requested) > self._max_versions:
            self._requested.popitem(last=False)
        return loaded

    def _known_names(self, asked_at: float = -math.inf) -> set[tuple[str, str]]:
        """The models and aliases that the store had a moment ago, but not before `asked_at`.

        Wrong names must not load the store, so it is not looked at again at once.
        """
        self._heads = look = _Look.again(
            self._heads,
            lambda: {(head.model, head.alias) for head in releases.heads(self._store)},
            self._clock,
            asked_at,
        )
        return look.content

    def _sha256_of(self, ref: ModelRef, version: int, asked_at: float) -> str:
        """The sha256 of the manifest of a version that a request names by number; empty if no release says.

        Raises:
            RequestRefused: E_UNKNOWN_MODEL, it is none of those that may be named.
        """
        now = self._clock()
        in_use: dict[int, str] = {}
        for since in (-math.inf, asked_at):
            if version not in in_use and ref.name in {name for name, _ in self._known_names(since)}:
                look = _Look.again(
                    self._in_use.get(ref.name),
                    lambda: retention.in_use(self._store, ref.name, datetime.now(UTC)),
                    self._clock,
                    since,
                )
                self._in_use[ref.name], in_use = look, look.content
        if version in in_use:
            return in_use[version]
        if not self._unreleased:
            may = ", ".join(map(str, sorted(in_use))) or "none"
            raise RequestRefused(
                Code.UNKNOWN_MODEL,
                f"{ref} is not released: of model {ref.name!r} requests may name versions {may}. "
                f"`scoreline promote {ref.name} {version} --alias candidate` or `scoreline pin {ref.name} {version}` "
                "makes it one of them, SCORELINE_SERVE_UNRELEASED=1 on workers every version",
            )
        # It is searched for, if it was not just now: wrong names must not load the store.
        searched_at = self._unknown.get(str(ref), -math.inf)
        has_searched = now - searched_at < UNKNOWN_FOR_S
        if has_searched or (now < self._vain_until and self._vain_searches >= VAIN_SEARCHES):
            raise _unknown(ref)
        if len(self._unknown) > UNKNOWN_KEPT:
            self._unknown.clear()
        return ""

    def _follow_head(self, head: releases.Head) -> bool:
        """Follow one log; returns whether the state of its alias changed."""
        if self._is_settled(head):
            return False
        key = (head.model, head.alias)
        try:
            return self._follow_alias(*key)
        # A log that cannot be read keeps no other alias from moving; its version continues to answer.
        except Exception as error:  # noqa: BLE001
            reason = reason_text(error)
        served = self._served.get(key, Served())
        if served.unreadable == reason:
            return False
        logger.error(
            "log_refused alias=%s@%s serving=%s: %s",
            *key,
            served.loaded and served.loaded.version,
            reason,
        )
        self._publish_state(key, replace(served, unreadable=reason))
        return True

    def _follow_alias(self, model: str, alias: str) -> bool:
        """Bring the newest release of an alias into force; returns whether its state changed."""
        release = releases.newest(self._store, model, alias, seen=self._seen)
        if release is None:
            return False
        key = (model, alias)
        served = self._served.get(key, Served())
        current = served.release
        if current and current.log == release.log and release.sequence < current.sequence:
            return False  # versions never go back by mistake
        if served.release == release:
            serves = served.loaded is not None and served.loaded.version == release.version
            reason = None if serves else self._backoff.reason(model, release.version)
            if serves or reason is not None:
                state = replace(served, refused=reason, unreadable=None)
                self._publish_state(key, state)
                return state != served
            logger.debug("version_tried model=%s version=%s", model, release.version)
        del served  # nothing may keep its previous version alive while another is loaded
        self._switch_to(release)
        return True

    def _switch_to(self, release: Release) -> None:
        """Bring a release's version into force; if that fails, the previous version continues to answer."""
        key, version = (release.model, release.alias), (release.model, release.version)
        served = self._served.get(key, Served())
        # Nothing may hold on to the version before the serving one: it is to be gone before the next is loaded.
        if served.previous is not None and served.previous.loaded.version != release.version:
            served = replace(served, previous=None)
        served = replace(served, release=release, refused=None, unreadable=None)
        self._publish_state(key, served)
        reason = self._backoff.reason(*version)
        is_new = False
        if reason is None:
            try:
                sha256 = release.manifest_sha256
                loaded = self._in_memory(*version, sha256) or self._load(*version, sha256)
            # Whatever a version raises while it is loaded, the previous version continues to answer.
            except Exception as error:  # noqa: BLE001
                reason = reason_text(error)
                is_new = self._backoff.note(*version, reason)
            else:
                self._backoff.forget(*version)
                # From now on the alias keeps it in memory, and for no longer than the alias needs it.
                self._requested.pop(version, None)
                previous = None
                if served.loaded is not None and served.loaded.version != loaded.version:
                    previous = PreviousVersion(served.loaded, used_at=self._clock())
                logger.info("version_serves model=%s version=%s", *version)
                self._publish_state(key, Served(release, loaded, previous))
                return
        fallback = served.loaded or self._newest_before(release)
        if is_new:
            logger.error(
                "version_refused model=%s version=%s serving=%s: %s",
                *version,
                fallback and fallback.version,
                reason,
            )
        self._publish_state(key, replace(served, loaded=fallback, refused=reason))

    def _newest_before(self, release: Release) -> AnyVersion | None:
        """The newest earlier version that can be loaded, when a release's version cannot."""
        log = releases.history(self._store, release.model, release.alias, trusted_only=True)
        for earlier in reversed(log):
            version = (earlier.model, earlier.version)
            if self._backoff.reason(*version) is not None:
                continue
            try:
                sha256 = earlier.manifest_sha256
                return self._in_memory(*version, sha256) or self._load(*version, sha256)
            # An older version that cannot be loaded either is backed off like the first.
            except Exception as error:  # noqa: BLE001
                self._backoff.note(*version, reason_text(error))
        return None

    def _in_memory(self, model: str, version: int, sha256: str = "") -> LoadedVersion | None:
        """The version under this number, and with this manifest if one is given."""

        def matches(loaded: AnyVersion) -> bool:
            its_sha256 = loaded.manifest_sha256
            is_other = sha256 and its_sha256 and sha256 != its_sha256
            return loaded.version == version and not is_other

        for (name, _), served in self._served.items():
            if name != model:
                continue
            if isinstance(served.loaded, LoadedVersion) and matches(served.loaded):
                return served.loaded
            previous = served.previous
            if previous is None or not matches(previous.loaded):
                continue
            previous.used_at = self._clock()
            if isinstance(previous.loaded, LoadedVersion):
                return previous.loaded
        requested = self._requested.get((model, version))
        if requested is not None and matches(requested):
            with suppress(KeyError):  # another thread has just dropped it
                self._requested.move_to_end((model, version))
            if self._aside is not None:
                self._aside[1].note_taken()
            return requested
        return None

    def _load(self, model: str, version: int, sha256: str = "") -> AnyVersion:
        # First, in this process: whether there is such a version, and whether its manifest is valid.
        named = sha256 or None
        self._store.verified(model, version, named)
        trial = self._trials.get((model, version))
        if trial is None:
            trial = self._prove(self._store, model, version) if self._prove else TrialResult()
            self._trials[model, version] = trial
        if self._forks and trial.not_inherited is not None:
            logger.warning(
                "version_deferred model=%s version=%s: each process loads it for itself, since %s",
                model,
                version,
                trial.not_inherited,
            )
            return DeferredVersion(model, version, trial.not_inherited, sha256)

        def load_here() -> LoadedVersion:
            with exclusively() if trial.is_exclusive else nullcontext():
                # What a main process forks meanwhile goes on without it: who has died is replaced at once. Elsewhere
                # a pipeline that forks while it is scored waits for the guard, and is in nobody's way until then.
                with nullcontext() if self._forks else fork_guard():
                    loaded, check = load_unproven(
                        self._store,
                        model,
                        version,
                        strict=self._strict,
                        sha256=named,
                        settings=trial.settings,
                    )
                if not self._forks:
                    check()
                    return loaded
                # What the first scoring would import: here all children share it.
                for name in trial.imports:
                    with suppress(Exception):
                        loaded.settings.import_installed(name)
                return loaded

        try:
            return in_own_thread(load_here)
        except SystemExit as error:
            # Code of the version asks this process to end, and did not in its trial: it is the version that is refused.
            message = f"its code calls sys.exit({error.code!r}) while it is loaded"
            raise IsolatedLoadFailed(message) from error

    def _publish_state(self, key: tuple[str, str], served: Served) -> None:
        """Replace the dictionary, so that readers without a lock see the old state or the new one."""
        self._served = {**self._served, key: served}


def _unknown(ref: ModelRef) -> RequestRefused:
    missing = f"version {ref.version}" if ref.alias is None else f"alias {ref.alias!r}"
    return RequestRefused(
        Code.UNKNOWN_MODEL,
        f"model {ref.name!r} with {missing} is not released in the artifact store that the workers read; "
        "`scoreline status` says which store that is and what is served",
    )
