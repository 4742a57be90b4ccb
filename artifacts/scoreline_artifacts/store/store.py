"""The artifact store: immutable, signed versions of models, in a folder or in a bucket.

A version is complete, or it is not there. Its bytes are handed out only after its signature, its
manifest, the names of its files and the file's own sha256 were found right, in this order, and what is
handed out are the very bytes that were verified.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from scoreline_artifacts.errors import (
    CorruptArtifact,
    Distrust,
    InvalidName,
    UnknownModelError,
    UnknownVersionError,
    UnsuitableStore,
    UntrustedArtifact,
)
from scoreline_artifacts.manifest import MANIFEST, SIGNATURE, FileEntry, Manifest
from scoreline_artifacts.store.backends import Backend
from scoreline_artifacts.store.cache import FileCache
from scoreline_artifacts.store.local import LocalFolder
from scoreline_artifacts.store.names import check_file_name, check_name, is_name
from scoreline_artifacts.store.signing import KeyRing, Purpose

__all__ = ["Store", "VerifiedManifest", "check_name", "describe_file", "is_name"]

DEFAULT_ROOT = "artifacts/store"
MANIFEST_LIMIT_BYTES = 64 * 1024 * 1024
SIGNATURE_LIMIT_BYTES = 4096
_URL_AS_PATH = re.compile(r"[a-z][a-z0-9+]+:/")
_UNSIGNED = (
    "It was published by a Scoreline that did not sign, or its signature was taken away; "
    "publish it again."
)


@dataclass(frozen=True, slots=True)
class VerifiedManifest:
    """A manifest, and the key that signed it."""

    manifest: Manifest
    key: str
    """Fingerprint."""


def describe_file(data: bytes) -> FileEntry:
    """Size and sha256 of a file's bytes."""
    return FileEntry(len(data), hashlib.sha256(data).hexdigest())


@dataclass(frozen=True)
class Store:
    """Artifacts under one folder, or under one URL such as `s3://bucket/models`."""

    root: Path | str
    """A folder, or the URL of a place in an object store, as text."""
    keys: KeyRing | None = None
    """Whose artifacts are believed; None: as the environment says."""

    def __post_init__(self) -> None:
        # Frozen, and yet a folder given as text is to be a Path, for whoever shows it.
        object.__setattr__(self, "root", _root(self.root))

    @classmethod
    def from_environment(cls) -> Store:
        """The store that SCORELINE_ARTIFACTS names, else `artifacts/store` under this directory."""
        return cls(os.environ.get("SCORELINE_ARTIFACTS") or DEFAULT_ROOT)

    @cached_property
    def backend(self) -> Backend:
        """What holds the files; only this package uses it."""
        if isinstance(self.root, Path):
            return LocalFolder(self.root)
        # Not at the top: who keeps a store in a folder needs no fsspec.
        from scoreline_artifacts.store.object_store import ObjectStore

        return ObjectStore(self.root)

    @cached_property
    def ring(self) -> KeyRing:
        """The keys in use."""
        return self.keys or KeyRing.from_environment()

    def models(self) -> list[str]:
        """Names of all models that have a version, sorted."""
        names = self.backend.names("")
        return sorted(name for name in names if is_name(name) and self._has_versions(name))

    def versions(self, model: str) -> list[int]:
        """Numbers of a model's versions, ascending; empty for an unknown model.

        Raises:
            InvalidName: the name cannot be that of a model.
        """
        return self.backend.versions(check_name(model))

    def location(self, model: str, version: int) -> Path | str:
        """Where a version is, for people; it need not be there."""
        return self.backend.place(_folder(model, version))

    def path(self, model: str, version: int) -> Path:
        """The folder of a version that is there, in a store that is a folder.

        Raises:
            UnknownModelError, UnknownVersionError: it is not there.
            CorruptArtifact: a link stands in its place.
            TypeError: the store is no folder.
        """
        if not isinstance(self.root, Path):
            raise TypeError(f"{self.root} is no folder: use location() to show where a version is")
        path = self.root / _folder(model, version)
        with LocalFolder(self.root).reached():
            if path.is_symlink():
                raise CorruptArtifact(path, "it is a link; a version is a directory of its own")
            if not path.is_dir():
                raise self._unknown(model, version)
        return path

    def manifest(self, model: str, version: int) -> Manifest:
        """Read a version's manifest, of which not a byte is looked at before its signature is right.

        Raises:
            UnknownModelError, UnknownVersionError: it is not in the store.
            UntrustedArtifact: it is not signed, or not by a key that is trusted here.
            CorruptArtifact: it is about something else, or the version's files are not those that it
                lists.
        """
        return self.verified(model, version).manifest

    def verified(self, model: str, version: int) -> VerifiedManifest:
        """The same, with the key that signed it."""
        folder = _folder(model, version)
        try:
            found = self.backend.files(folder)
        except FileNotFoundError as error:
            raise self._unknown(model, version) from error
        place = self.backend.place(folder)
        if SIGNATURE not in found:
            raise UntrustedArtifact(place, Distrust.UNSIGNED, _UNSIGNED)
        data = self._read(f"{folder}/{MANIFEST}", MANIFEST_LIMIT_BYTES)
        signature = self._read(f"{folder}/{SIGNATURE}", SIGNATURE_LIMIT_BYTES)
        key = self.ring.verify(Purpose.ARTIFACT, data, signature, about=place)
        manifest = Manifest.decode(data, self.backend.place(f"{folder}/{MANIFEST}"))
        if (manifest.model, manifest.version) != (model, version):
            reason = f"it is about {manifest.model}@{manifest.version}"
            raise CorruptArtifact(self.backend.place(f"{folder}/{MANIFEST}"), reason)
        _compare(manifest, found, place)
        return VerifiedManifest(manifest, key)

    def read(self, manifest: Manifest, name: str) -> bytes:
        """Read a file once and verify these very bytes against the manifest.

        Raises:
            CorruptArtifact: size or sha256 differ, or the file is a link or not there.
        """
        path = f"{_folder(manifest.model, manifest.version)}/{name}"
        expected = manifest.files.get(name)
        if expected is None:
            raise CorruptArtifact(self.backend.place(path), "the manifest does not list this file")
        _check_listed(name, self.backend.place(path))
        if self._cache is None:
            return self._read_verified(path, expected)
        return self._cache.fetch(expected, lambda: self._read_verified(path, expected))

    def read_all(self, manifest: Manifest) -> dict[str, bytes]:
        """The bytes of every file, all of them verified before any is used.

        Raises:
            CorruptArtifact: one of them is not what was published.
        """
        return {name: self.read(manifest, name) for name in manifest.files}

    def publish(
        self, model: str, files: Mapping[str, bytes], make_manifest: Callable[[int], Manifest]
    ) -> Manifest:
        """Sign and add a version: all of it at once, or nothing.

        `make_manifest` is called with the version's number, again if another publisher was faster.

        Raises:
            InvalidName: the model's name, or that of a file, cannot be one.
            UnusableKey: it cannot be signed.
        """
        check_name(model)
        for name in files:
            check_file_name(name)
        made: dict[int, Manifest] = {}

        def seal(version: int) -> dict[str, bytes]:
            made[version] = manifest = make_manifest(version)
            if manifest.files.keys() != files.keys() or {MANIFEST, SIGNATURE} & files.keys():
                raise ValueError(
                    "the manifest must list the files that are published, and no other"
                )
            data = manifest.encode()
            return {MANIFEST: data, SIGNATURE: self.ring.sign(Purpose.ARTIFACT, data)}

        return made[self.backend.publish(model, files, seal)]

    @cached_property
    def _cache(self) -> FileCache | None:
        return None if isinstance(self.root, Path) else FileCache.from_environment()

    def _has_versions(self, name: str) -> bool:
        try:
            return bool(self.versions(name))
        except CorruptArtifact:
            return False  # a stray file, or a link, is nobody's model

    def _read_verified(self, path: str, expected: FileEntry) -> bytes:
        data = self._read(path, expected.size)
        if describe_file(data) != expected:
            reason = "its bytes are not those that were published (sha256)"
            raise CorruptArtifact(self.backend.place(path), reason)
        return data

    def _read(self, path: str, limit_bytes: int) -> bytes:
        try:
            return self.backend.read(path, limit_bytes=limit_bytes)
        except FileNotFoundError as error:
            raise CorruptArtifact(self.backend.place(path), "it cannot be read: no file") from error

    def _unknown(self, model: str, version: int) -> UnknownModelError | UnknownVersionError:
        versions = self.versions(model)
        if versions:
            return UnknownVersionError(model, version, versions)
        # By their folders alone: whoever asks for what is not there must not cost many requests.
        return UnknownModelError(model, self.root, sorted(filter(is_name, self.backend.names(""))))


def _root(given: Path | str) -> Path | str:
    if isinstance(given, str):
        given = given.removeprefix("file://")
        if "://" in given:
            return given.rstrip("/")
    elif _URL_AS_PATH.match(str(given)):
        raise UnsuitableStore(given, "a URL must be given as text: a Path loses one of its slashes")
    return Path(given)


def _folder(model: str, version: int) -> str:
    return f"{check_name(model)}/versions/{int(version)}"


def _compare(manifest: Manifest, found: Mapping[str, int], place: object) -> None:
    """Refuse a version whose files are not those that its manifest lists."""
    for name in manifest.files:
        _check_listed(name, place)
    there = found.keys() - {MANIFEST, SIGNATURE}
    if extra := sorted(there - manifest.files.keys()):
        raise CorruptArtifact(place, f"the manifest does not list {', '.join(extra)}")
    if missing := sorted(manifest.files.keys() - there):
        raise CorruptArtifact(place, f"{', '.join(missing)} cannot be read: no file")
    for name, entry in manifest.files.items():
        if found[name] != entry.size:
            reason = f"{name} has {found[name]} bytes, the manifest says {entry.size}"
            raise CorruptArtifact(place, reason)


def _check_listed(name: str, place: object) -> None:
    try:
        check_file_name(name)
    except InvalidName as error:
        raise CorruptArtifact(
            place, f"the manifest lists a file that cannot be: {error}"
        ) from error
