"""Releases: which version an alias names, as an append-only log of small files.

The release with the highest number is in force. A new one is created whole, under a number that
nobody else has, so two people who promote at the same moment make two releases, in some order.
Nothing is ever changed or taken back: a rollback is a release as well.

Every entry is signed: its first line is the release, its second line the signature of the first. An
invalid entry is an error for its alias; it is never passed over for the one before it. A machine that
has seen entries notices when they are removed from the end, see `LogMarks`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import secrets
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from scoreline_artifacts.errors import (
    CorruptArtifact,
    Distrust,
    LogTruncated,
    NothingToRollBack,
    UnknownAliasError,
    UntrustedArtifact,
)
from scoreline_artifacts.store.local_files import write_file
from scoreline_artifacts.store.signing import REPAIR, Purpose
from scoreline_artifacts.store.storage import check_alias, check_name
from scoreline_artifacts.store.store import Store
from scoreline_client.protocol.names import PRODUCTION, is_alias, is_name
from scoreline_client.settings import ArtifactSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LogMarks:
    """How far release logs were seen to go on this machine, so that none of them goes back unnoticed.

    Whoever can write to the store can take the last entries of a log away, and what is left is still signed.
    A running worker never goes back. For a worker that starts again, the last number that was seen is kept in
    a small file in the cache folder, under the log's own random number, which is part of every signed entry.
    A log that was begun anew, in another store, is another log.
    """

    folder: Path

    @classmethod
    def from_environment(cls) -> LogMarks:
        """The marks under SCORELINE_CACHE, else under the user's caches."""
        return cls(Path(ArtifactSettings.from_environment().cache) / "seen")

    def check(self, model: str, alias: str, *, log: str, number: int) -> None:
        """Compare the number of a log's last release with the highest that was seen, and remember it.

        `log` is the log's own random number, `number` that of its last release.

        A folder that cannot be used is a warning: then only running processes notice.

        Raises:
            LogTruncated: a later one was seen.
        """
        # Hashed, since a log's number may be any text: it must not lead out of the folder.
        mark = self.folder / hashlib.sha256(log.encode()).hexdigest()
        lock = self.folder.with_name("locks") / "seen"
        try:
            for folder in (self.folder, lock.parent):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with FileLock(lock, mode=0o600):
                text = mark.read_bytes() if mark.exists() else b""
                seen = int(text) if text.isdigit() else 0
                if number > seen:
                    write_file(mark, f"{number:020d}".encode(), mode=0o600)
        except OSError as error:
            logger.warning(
                "rollback_mark_unwritable path=%s: %s; removed releases go unnoticed after a restart",
                mark,
                error,
            )
            return
        if seen > number:
            raise LogTruncated(model, alias, number, seen, mark)


ENTRY_LIMIT_BYTES = 64 * 1024
PROMOTE, ROLLBACK = "promote", "rollback"
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

    def encode(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True).encode()

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
    found = []
    for model in sorted(filter(is_name, store.storage.names(""))):
        # A stray file, or a link, is nobody's model.
        with suppress(CorruptArtifact):
            logs = sorted(_logs(store, model).items())
            found += [Head(model, alias, numbers[-1]) for alias, numbers in logs]
    return found


def aliases(store: Store, model: str) -> list[str]:
    """Aliases that were ever released, sorted."""
    return sorted(_logs(store, model))


def current(store: Store, model: str, alias: str = PRODUCTION) -> Release | None:
    """The release in force, or None if there never was one.

    Raises:
        UntrustedArtifact: its entry is not signed by a key that is trusted here.
        CorruptArtifact: it is about something else.
    """
    numbers = _numbers(store, model, alias)
    return _read(store, model, alias, numbers[-1]) if numbers else None


def newest(store: Store, model: str, alias: str, *, seen: LogMarks | None) -> Release | None:
    """The release in force, for a process that serves it: a log that has become shorter is refused.

    `seen` knows how far the log was seen to go; None: nothing is known or remembered.

    Raises:
        LogTruncated: a later release was seen on this machine; otherwise as for `current`.
    """
    release = current(store, model, alias)
    if release is not None and seen is not None:
        seen.check(model, alias, log=release.log, number=release.sequence)
    return release


def history(
    store: Store, model: str, alias: str = PRODUCTION, *, trusted_only: bool = False
) -> list[Release]:
    """All releases of an alias, oldest first; or those that are trusted, and the last one.

    Raises:
        UntrustedArtifact: one of them is not signed by a key that is trusted here.
        CorruptArtifact: one of them is about something else, or missing.
    """
    numbers = _numbers(store, model, alias)
    log = []
    # By the names that are there: anybody who can write to the store can make one with a huge number.
    for place, number in enumerate(numbers, start=1):
        try:
            log.append(_read(store, model, alias, number if trusted_only else place))
        except (UntrustedArtifact, CorruptArtifact):
            if number == numbers[-1] or not trusted_only:
                raise
    return log


def promote(store: Store, model: str, version: int, alias: str = PRODUCTION) -> Release:
    """Let an alias name a version; one that it names already makes no new release.

    A last entry that is not trusted, such as one by a revoked key, is no obstacle: the new one follows it.

    Raises:
        UnknownModelError, UnknownVersionError: there is no such version.
        UntrustedArtifact, CorruptArtifact: the version could not serve.
        InvalidName: the alias's name cannot be one.
    """
    store.manifest(model, version)
    while True:
        numbers = _numbers(store, model, alias)
        last = max(numbers, default=0)
        trusted = None
        for number in reversed(numbers):
            with suppress(UntrustedArtifact, CorruptArtifact):
                trusted = _read(store, model, alias, number)
                break
        if trusted is not None and (trusted.sequence, trusted.version) == (last, version):
            return trusted
        # With another identity, the marks that machines keep of this log would protect it no more.
        log = trusted.log if trusted else secrets.token_hex(16)
        release = _append(store, model, alias, version=version, sequence=last + 1, log=log)
        if release is not None:
            return release


def rollback(store: Store, model: str, alias: str = PRODUCTION) -> Release:
    """Let an alias name what it named before; again and again goes back further.

    Raises:
        UnknownAliasError: it never named anything.
        NothingToRollBack: there is no earlier release.
        UntrustedArtifact, CorruptArtifact: the release in force or the earlier one is invalid, or the
            earlier version could not serve.
    """
    while True:
        now = current(store, model, alias)
        if now is None:
            raise UnknownAliasError(model, alias, aliases(store, model))
        number = number_before(now)
        if not number:
            raise NothingToRollBack(model, alias)
        before = _read(store, model, alias, number)
        store.manifest(model, before.version)
        release = _append(
            store,
            model,
            alias,
            version=before.version,
            sequence=now.sequence + 1,
            log=now.log,
            kind=ROLLBACK,
            returns_to=before.returns_to or before.sequence,
        )
        if release is not None:
            return release


def number_before(release: Release) -> int:
    """The number of the release that a rollback of this one restores; 0 if there is none."""
    # A rollback stands for the release that it restored; what came before that one is before.
    return (release.returns_to or release.sequence) - 1


def _append(store: Store, model: str, alias: str, **values: Any) -> Release | None:
    """Add a release, or None if somebody else has just taken its number."""
    release = Release(
        model=model,
        alias=check_alias(alias),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        nonce=secrets.token_hex(8),
        **values,
    )
    line = release.encode()
    entry = line + b"\n" + store.ring.sign(Purpose.RELEASE, line)
    try:
        store.storage.create(_path(model, alias, release.sequence), entry)
    except FileExistsError:
        return None
    return release


def _path(model: str, alias: str, number: int) -> str:
    return f"{check_name(model)}/releases/{check_alias(alias)}/{number:08d}.json"


def _logs(store: Store, model: str) -> dict[str, list[int]]:
    """Numbers of the releases of every alias that has any, ascending."""
    folders = store.storage.names_below(f"{check_name(model)}/releases")
    logs = {alias: _entries(names) for alias, names in folders.items() if is_alias(alias)}
    return {alias: numbers for alias, numbers in logs.items() if numbers}


def _numbers(store: Store, model: str, alias: str) -> list[int]:
    return _entries(store.storage.names(f"{check_name(model)}/releases/{check_alias(alias)}"))


def _entries(names: Iterable[str]) -> list[int]:
    return sorted(int(match[1]) for name in names if (match := _ENTRY.fullmatch(name)))


def _read(store: Store, model: str, alias: str, number: int) -> Release:
    path = _path(model, alias, number)
    location = store.storage.location(path)
    try:
        data = store.storage.read(path, limit_bytes=ENTRY_LIMIT_BYTES)
    except FileNotFoundError as error:
        raise CorruptArtifact(location, "it cannot be read: no file") from error
    line, newline, signature = data.partition(b"\n")
    if not newline:
        raise UntrustedArtifact(location, Distrust.UNSIGNED, REPAIR[Purpose.RELEASE])
    store.ring.verify(Purpose.RELEASE, line, signature, about=location)
    release = Release.decode(line, location)
    if (release.model, release.alias, release.sequence) != (model, alias, number):
        owner = f"{release.model}@{release.alias} #{release.sequence}"
        raise CorruptArtifact(location, f"the release file belongs to {owner}")
    return release
