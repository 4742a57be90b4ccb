"""Releases: which version an alias names, as an append-only log of small files.

The release with the highest number is in force. A new one is created whole, under a number that
nobody else has, so two people who promote at the same moment make two releases, in some order.
Nothing is ever changed or taken back: a rollback is a release as well.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scoreline_artifacts.errors import (
    CorruptArtifact,
    InvalidName,
    NothingToRollBack,
    UnknownAliasError,
)
from scoreline_artifacts.store import Store, check_name, is_name, write_new

PRODUCTION = "production"
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

    def encode(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True).encode()

    @classmethod
    def decode(cls, data: bytes, path: object) -> Release:
        """Read an entry.

        Raises:
            CorruptArtifact: it is none.
        """
        try:
            return cls(**json.loads(data))
        except (ValueError, TypeError) as error:
            raise CorruptArtifact(path, f"the release cannot be read: {error}") from error


def check_alias(name: str) -> str:
    """Return a name that may be an alias's.

    Raises:
        InvalidName: it may not.
    """
    if check_name(name).isdecimal():
        raise InvalidName(name, "an alias of digits only would be taken for a version's number")
    return name


def aliases(store: Store, model: str) -> list[str]:
    """Aliases that were ever released, sorted."""
    directory = store.root / check_name(model) / "releases"
    try:
        names = [one.name for one in directory.iterdir() if one.is_dir()]
    except FileNotFoundError:
        return []
    usable = (name for name in names if is_name(name) and not name.isdecimal())
    return sorted(name for name in usable if _numbers(store, model, name))


def current(store: Store, model: str, alias: str = PRODUCTION) -> Release | None:
    """The release in force, or None."""
    numbers = _numbers(store, model, alias)
    return _read(store, model, alias, numbers[-1]) if numbers else None


def history(store: Store, model: str, alias: str = PRODUCTION) -> list[Release]:
    """All releases of an alias, oldest first."""
    return [_read(store, model, alias, number) for number in _numbers(store, model, alias)]


def promote(store: Store, model: str, version: int, alias: str = PRODUCTION) -> Release:
    """Let an alias name a version; one that it names already makes no new release.

    Raises:
        UnknownModelError, UnknownVersionError: there is no such version.
        InvalidName: the alias's name cannot be one.
    """
    store.path(model, version)
    while True:
        now = current(store, model, alias)
        if now is not None and now.version == version:
            return now
        number = 1 if now is None else now.sequence + 1
        release = _append(store, model, alias, version=version, sequence=number)
        if release is not None:
            return release


def rollback(store: Store, model: str, alias: str = PRODUCTION) -> Release:
    """Let an alias name what it named before; again and again goes back further.

    Raises:
        UnknownAliasError: it never named anything.
        NothingToRollBack: there is nothing before.
    """
    while True:
        log = {release.sequence: release for release in history(store, model, alias)}
        if not log:
            raise UnknownAliasError(model, alias, aliases(store, model))
        now = log[max(log)]
        # A rollback stands for the release that it restored; what came before that one is before.
        before = log.get((now.returns_to or now.sequence) - 1)
        if before is None:
            raise NothingToRollBack(model, alias)
        release = _append(
            store,
            model,
            alias,
            version=before.version,
            sequence=now.sequence + 1,
            kind=ROLLBACK,
            returns_to=before.returns_to or before.sequence,
        )
        if release is not None:
            return release


def _append(store: Store, model: str, alias: str, **values: Any) -> Release | None:
    """Add a release, or None if somebody else has just taken its number."""
    release = Release(
        model=model,
        alias=check_alias(alias),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        **values,
    )
    try:
        write_new(_path(store, model, alias, release.sequence), release.encode())
    except FileExistsError:
        return None
    return release


def _directory(store: Store, model: str, alias: str) -> Path:
    return store.root / check_name(model) / "releases" / check_alias(alias)


def _path(store: Store, model: str, alias: str, number: int) -> Path:
    return _directory(store, model, alias) / f"{number:08d}.json"


def _numbers(store: Store, model: str, alias: str) -> list[int]:
    try:
        names = [one.name for one in _directory(store, model, alias).iterdir()]
    except FileNotFoundError:
        return []
    return sorted(int(found[1]) for name in names if (found := _ENTRY.fullmatch(name)))


def _read(store: Store, model: str, alias: str, number: int) -> Release:
    path = _path(store, model, alias, number)
    release = Release.decode(path.read_bytes(), path)
    if (release.model, release.alias, release.sequence) != (model, alias, number):
        about = f"{release.model}@{release.alias}, number {release.sequence}"
        raise CorruptArtifact(path, f"the release is about {about}")
    return release
