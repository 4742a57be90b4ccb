"""Releases: which version an alias names, as an append-only log of small files.

The release with the highest number is in force. A new one is created whole, under a number that
nobody else has, so two people who promote at the same moment make two releases, in some order.
Nothing is ever changed or taken back: a rollback is a release as well.

Every entry is signed: its first line is the release, its second line the signature of the first. An
invalid entry is an error for its alias; it is never passed over for the one before it. A machine that
has seen entries notices when they are removed from the end, or another log takes their place, see `marks.py`.

An entry names the store and the sha256 of the version's manifest: it is not valid in another store, and no other
bytes can take the version's place. Entries of earlier releases name neither; see `identity.py`.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from scoreline_artifacts.errors import (
    CorruptArtifact,
    Distrust,
    LogReplaced,
    NothingToRollBack,
    UnknownAliasError,
    UntrustedArtifact,
    UntrustedLog,
)
from scoreline_artifacts.store.identity import check_belongs
from scoreline_artifacts.store.marks import LogMarks
from scoreline_artifacts.store.signing import REPAIR, Purpose
from scoreline_artifacts.store.storage import check_alias, check_name
from scoreline_artifacts.store.store import Store
from scoreline_client.protocol.names import PRODUCTION, is_alias, is_name

ENTRY_LIMIT_BYTES = 64 * 1024
PROMOTE, ROLLBACK = "promote", "rollback"
_OF_OTHERS = (Distrust.UNKNOWN_KEY, Distrust.NO_KEYS, Distrust.OTHER_NAME)
"""Why an entry is not trusted that another machine may trust. No machine trusts a damaged one, or a revoked key's."""
_ENTRY = re.compile(r"([0-9]{8,})\.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One entry of an alias's log."""

    model: str
    alias: str
    version: int
    sequence: int
    """Its number in the log, from 1."""
    kind: str = PROMOTE
    returns_to: int | None = None
    """For a rollback: the number of the release whose state it restores."""
    created_at: str = ""
    """ISO 8601, UTC."""
    log: str = ""
    """Which log it belongs to: a random number, chosen at the first release and kept from then on."""
    nonce: str = ""
    """Random, so that no two entries are the same bytes."""
    store: str = ""
    """The identity of the store; empty in entries of earlier releases."""
    manifest_sha256: str = ""
    """The version's manifest, which binds all of its files; empty in entries of earlier releases."""

    def encode(self) -> bytes:
        values = asdict(self)
        if not self.store:  # of an earlier release
            del values["store"], values["manifest_sha256"]
        return json.dumps(values, sort_keys=True).encode()

    def was_made_before(self, moment: datetime) -> bool:
        """Whether its own time is before a moment."""
        try:
            return datetime.fromisoformat(self.created_at) < moment
        except (ValueError, TypeError):
            return False  # its time cannot be read, or has no time zone

    @classmethod
    def decode(cls, data: bytes, path: object) -> Release:
        """Read what `encode` wrote.

        Raises:
            CorruptArtifact: the bytes are not a release.
        """
        try:
            return cls(**json.loads(data))
        except (ValueError, TypeError) as error:
            raise CorruptArtifact(path, f"the release cannot be read: {error}") from error


@dataclass(frozen=True, slots=True)
class Head:
    """How far the log of an alias goes."""

    model: str
    alias: str
    sequence: int
    """Number of its last release, from the name of its file."""


def heads(store: Store) -> list[Head]:
    """How far every log of the store goes, by names alone; no file is read.

    A worker calls this every few seconds: in a bucket it costs one listing of the models, and one for
    each model.
    """
    all_heads = []
    for model in sorted(filter(is_name, store.storage.names(""))):
        # A stray file, or a link, is nobody's model.
        with suppress(CorruptArtifact):
            logs = sorted(_logs(store, model).items())
            all_heads += [Head(model, alias, numbers[-1]) for alias, numbers in logs]
    return all_heads


def aliases(store: Store, model: str, *, whole: bool = False) -> list[str]:
    """Aliases that were ever released, sorted. One whose log cannot be read is left out, unless `whole` is asked for.

    Raises:
        CorruptArtifact: `whole` is asked for, and the folder of an alias cannot be read.
    """
    return sorted(_logs(store, model, whole=whole))


def current(store: Store, model: str, alias: str = PRODUCTION) -> Release | None:
    """The release in force, or None if there never was one.

    Raises:
        UntrustedArtifact: its entry is not signed by a key that is trusted here.
        CorruptArtifact: it is about something else.
    """
    numbers = numbers_of(store, model, alias)
    return _read(store, model, alias, numbers[-1]) if numbers else None


def newest(store: Store, model: str, alias: str, *, seen: LogMarks | None) -> Release | None:
    """The release in force, for a process that serves it: a log that has become shorter is refused.

    `seen` knows how far the log was seen to go; None: nothing is known or remembered.

    Raises:
        LogTruncated, LogReplaced: a later release, or another log, was seen on this machine; otherwise as for
            `current`.
    """
    release = current(store, model, alias)
    if seen is None:
        return release
    store_id = store.known_as()
    if release is not None:
        seen.check(store_id, model, alias, log=release.log, number=release.sequence)
    elif seen_log := seen.log_of(store_id, model, alias):
        seen.check(store_id, model, alias, log=seen_log[0], number=0)
    return release


def history(
    store: Store, model: str, alias: str = PRODUCTION, *, trusted_only: bool = False
) -> list[Release]:
    """All releases of an alias, oldest first; with `trusted_only`, those that are trusted, and the last one.

    Raises:
        UntrustedArtifact: one of them is not signed by a key that is trusted here.
        CorruptArtifact: one of them is about something else, or missing.
    """
    numbers = numbers_of(store, model, alias)
    log = []
    # By the names that are there: anybody who can write to the store can make one with a huge number.
    for expected, number in enumerate(numbers, start=1):
        try:
            log.append(_read(store, model, alias, number if trusted_only else expected))
        except (UntrustedArtifact, CorruptArtifact):
            if number == numbers[-1] or not trusted_only:
                raise
    return log


def recent(store: Store, model: str, alias: str, since: datetime) -> list[Release]:
    """The releases of an alias in force since a moment, and the one that a rollback would restore; oldest first.

    An entry that is not trusted is passed over, unless it is the last.

    Raises:
        UntrustedArtifact, CorruptArtifact: the last entry is not valid.
    """
    newest_first: list[Release] = []
    numbers = numbers_of(store, model, alias)
    for number in reversed(numbers):
        is_old = bool(newest_first) and newest_first[-1].was_made_before(since)
        if is_old and number < number_before(newest_first[0]):
            break
        if is_old and number != number_before(newest_first[0]):
            continue
        try:
            newest_first.append(_read(store, model, alias, number))
        except (UntrustedArtifact, CorruptArtifact):
            if number == numbers[-1]:
                raise
    return newest_first[::-1]


def promote(
    store: Store,
    model: str,
    version: int,
    alias: str = PRODUCTION,
    *,
    seen: LogMarks | None = None,
    new_log: bool = False,
) -> Release:
    """Let an alias name a version; one that it names already makes no new release.

    The new release follows the last entry even if that is not trusted, such as one by a revoked key. With `seen`, it
    also follows the entries that were seen on this machine and were taken away since. Where no entry is trusted and
    none was seen, and some may be valid for machines that trust another key, the new release would begin another log,
    which those machines refuse: it is made only with `new_log`.

    Raises:
        UnknownModelError, UnknownVersionError: there is no such version.
        UntrustedArtifact, CorruptArtifact: the version could not serve, or the key that signs here is not trusted
            for these names.
        UntrustedLog: the releases are of keys that are not trusted here, for these names.
        LogReplaced: another log of this alias was seen on this machine.
        InvalidName: the alias's name cannot be one.
    """
    check_alias(alias)
    sha256 = store.verified(model, version).sha256
    while True:
        numbers = numbers_of(store, model, alias)
        last = max(numbers, default=0)
        trusted, foreign = None, None
        for number in reversed(numbers):
            try:
                trusted = _read(store, model, alias, number)
                break
            except UntrustedArtifact as error:
                # An own key that is not trusted for these names is refused in `_append`.
                is_own = error.fingerprint == store.ring.own_fingerprint()
                if error.reason in _OF_OTHERS and not is_own:
                    foreign = foreign or error
            except CorruptArtifact:
                continue
        seen_log = seen.log_of(store.known_as(), model, alias) if seen else None
        if seen_log and trusted and trusted.log != seen_log[0]:
            raise LogReplaced(model, alias)
        if foreign and not (seen_log or trusted or new_log):
            raise UntrustedLog(model, alias, foreign) from foreign
        log, last_seen = seen_log or (trusted.log if trusted else secrets.token_hex(16), 0)
        # An entry of an earlier release of Scoreline names a version and not its bytes.
        if (
            trusted is not None
            and (trusted.sequence, trusted.version) == (last, version)
            and trusted.manifest_sha256 in ("", sha256)
            and last >= last_seen
        ):
            return trusted
        # The log keeps its own number: under another one, the marks of other machines would not protect it.
        release = _append(
            store,
            model,
            alias,
            seen,
            manifest_sha256=sha256,
            version=version,
            sequence=max(last, last_seen) + 1,
            log=log,
        )
        if release is not None:
            return release


def rollback(
    store: Store, model: str, alias: str = PRODUCTION, *, seen: LogMarks | None = None
) -> Release:
    """Let an alias name what it named before; again and again goes back further.

    Raises:
        UnknownAliasError: it never named anything.
        NothingToRollBack: there is no earlier release.
        UntrustedArtifact, CorruptArtifact: the release in force or the earlier one is invalid, or the
            earlier version could not serve.
        LogTruncated, LogReplaced: with `seen`, a later release, or another log, was seen on this machine.
    """
    while True:
        in_force = newest(store, model, alias, seen=seen)
        if in_force is None:
            raise UnknownAliasError(model, alias, aliases(store, model))
        number = number_before(in_force)
        if not number:
            raise NothingToRollBack(model, alias)
        earlier = _read(store, model, alias, number)
        sha256 = earlier.manifest_sha256 or None
        release = _append(
            store,
            model,
            alias,
            seen,
            manifest_sha256=store.verified(model, earlier.version, sha256).sha256,
            version=earlier.version,
            sequence=in_force.sequence + 1,
            log=in_force.log,
            kind=ROLLBACK,
            returns_to=earlier.returns_to or earlier.sequence,
        )
        if release is not None:
            return release


def number_before(release: Release) -> int:
    """The number of the release that a rollback of this one restores; 0 if there is none."""
    # A rollback stands for the release that it restored: the one before that comes next.
    return (release.returns_to or release.sequence) - 1


def _append(
    store: Store, model: str, alias: str, seen: LogMarks | None, **values: Any
) -> Release | None:
    """Add a release, or None if somebody else has just taken its number."""
    release = Release(
        model=model,
        alias=check_alias(alias),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        nonce=secrets.token_hex(8),
        store=store.make_identity().id,
        **values,
    )
    line, path = release.encode(), _path(model, alias, release.sequence)
    location = store.storage.location(path)
    signature = store.ring.sign(Purpose.RELEASE, line)
    # The key that signs here may be trusted for other names only.
    store.ring.verify(Purpose.RELEASE, line, signature, about=location, model=model, alias=alias)
    try:
        store.storage.create(path, line + b"\n" + signature)
    except FileExistsError:
        return None
    if seen is not None:
        seen.check(release.store, model, alias, log=release.log, number=release.sequence)
    return release


def _path(model: str, alias: str, number: int) -> str:
    return f"{check_name(model)}/releases/{check_alias(alias)}/{number:08d}.json"


def _logs(store: Store, model: str, *, whole: bool = False) -> dict[str, list[int]]:
    """Numbers of the releases of every alias that has any, ascending."""
    folders = store.storage.names_below(f"{check_name(model)}/releases", whole=whole)
    logs = {alias: _entries(names) for alias, names in folders.items() if is_alias(alias)}
    return {alias: numbers for alias, numbers in logs.items() if numbers}


def numbers_of(store: Store, model: str, alias: str) -> list[int]:
    """The numbers of the releases of an alias, ascending, by the names of their files."""
    return _entries(store.storage.names(f"{check_name(model)}/releases/{check_alias(alias)}"))


def _entries(names: Iterable[str]) -> list[int]:
    return sorted(int(match[1]) for name in names if (match := _ENTRY.fullmatch(name)))


def _read(store: Store, model: str, alias: str, number: int) -> Release:
    return read_signed(store, model, alias, number)[0]


def read_signed(store: Store, model: str, alias: str, number: int) -> tuple[Release, str]:
    """A release, and the fingerprint of the key that signed it; raises as `current` does."""
    path = _path(model, alias, number)
    location = store.storage.location(path)
    try:
        data = store.storage.read(path, limit_bytes=ENTRY_LIMIT_BYTES)
    except FileNotFoundError as error:
        raise CorruptArtifact(location, "it cannot be read: no file") from error
    line, newline, signature = data.partition(b"\n")
    if not newline:
        raise UntrustedArtifact(location, Distrust.UNSIGNED, REPAIR[Purpose.RELEASE])
    key = store.ring.verify(
        Purpose.RELEASE, line, signature, about=location, model=model, alias=alias
    )
    release = Release.decode(line, location)
    if (release.model, release.alias, release.sequence) != (model, alias, number):
        owner = f"{release.model}@{release.alias} #{release.sequence}"
        raise CorruptArtifact(location, f"the release file belongs to {owner}")
    check_belongs(store.identity(), release.store, store.storage, path, data)
    return release, key
