"""The artifact store: immutable, signed versions of models, in a folder or in a bucket.

A version is complete, or it is not there. Its bytes are handed out only after its signature, its
manifest, the store that it was signed for, the names of its files and the file's own sha256 were
verified, in this order, and what is handed out are the very bytes that were verified.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from scoreline_artifacts.errors import (
    ArtifactError,
    CorruptArtifact,
    Distrust,
    InvalidName,
    UnknownModelError,
    UnknownVersionError,
    UnsuitableStore,
    UntrustedArtifact,
)
from scoreline_artifacts.manifest import (
    FORMAT_VERSION,
    MANIFEST,
    SIGNATURE,
    FileEntry,
    Manifest,
)
from scoreline_artifacts.store.cache import FileCache
from scoreline_artifacts.store.identity import (
    Identity,
    address_of,
    check_belongs,
    make_identity,
    read_identity,
)
from scoreline_artifacts.store.marks import LogMarks
from scoreline_artifacts.store.signing import KeyRing, Purpose
from scoreline_artifacts.store.storage import (
    MANIFEST_LIMIT_BYTES,
    Storage,
    check_file_name,
    check_name,
)
from scoreline_client.protocol.names import is_name
from scoreline_client.settings import ArtifactSettings

SIGNATURE_LIMIT_BYTES = 4096
_URL_AS_PATH = re.compile(r"[a-z][a-z0-9+]+:/")
_UNSIGNED = (
    "It was published by a Scoreline that did not sign, its publisher has not finished, or its signature "
    "was taken away; publish it again."
)


@dataclass(frozen=True, slots=True)
class VerifiedManifest:
    """A manifest, and the key that signed it."""

    manifest: Manifest
    key: str
    """Fingerprint."""
    sha256: str
    """Of the manifest's bytes, which bind all files of the version."""


def describe_file(data: bytes) -> FileEntry:
    """Size and sha256 of a file's bytes."""
    return FileEntry(len(data), hashlib.sha256(data).hexdigest())


@dataclass(frozen=True)
class Store:
    """Artifacts under one folder, or under one URL such as `s3://bucket/models`."""

    root: Path | str
    """A folder, or, as text, the URL of a folder in a bucket."""
    keys: KeyRing | None = None
    """Whose artifacts are trusted; None: as the environment says."""

    def __post_init__(self) -> None:
        root = self.root
        if isinstance(root, str):
            root = root.removeprefix("file://")
            root = root.rstrip("/") if "://" in root else Path(root)
        elif _URL_AS_PATH.match(str(root)):
            reason = "a URL must be given as text: a Path loses one of its slashes"
            raise UnsuitableStore(root, reason)
        object.__setattr__(self, "root", root)

    @classmethod
    def from_environment(cls) -> Store:
        """The store that SCORELINE_ARTIFACTS names, else `artifacts/store` under this directory."""
        return cls(ArtifactSettings.from_environment().artifacts)

    @cached_property
    def storage(self) -> Storage:
        """Its files; only this package uses them."""
        return Storage(self.root)

    @cached_property
    def ring(self) -> KeyRing:
        """The keys in use."""
        return self.keys or KeyRing.from_environment()

    def identity(self) -> Identity | None:
        """Who this store is; None for a store of earlier releases, to which nothing was added since.

        Raises:
            StoreReplaced: another store is known here under this address.
            UntrustedArtifact, CorruptArtifact: no key that is trusted here has signed it.
        """
        return read_identity(self.storage, self.ring)

    def make_identity(self) -> Identity:
        """Who this store is; the first publish or promote gives it an identity.

        Raises:
            UnusableKey: it cannot be signed; otherwise as for `identity`.
        """
        return make_identity(self.storage, self.ring)

    def identity_id(self) -> str:
        """The store's identity, 64 hexadecimal digits; an empty text while it has none. Raises as `identity` does."""
        identity = self.identity()
        return "" if identity is None else identity.id

    def known_as(self) -> str:
        """How this machine remembers the store: by its identity, else by its address."""
        return self.identity_id() or address_of(self.storage)

    def models(self) -> list[str]:
        """Names of all models that have a version, sorted."""
        models = []
        for name in sorted(filter(is_name, self.storage.names(""))):
            # A stray file, or a link, is nobody's model.
            with contextlib.suppress(CorruptArtifact):
                if self.versions(name):
                    models.append(name)
        return models

    def versions(self, model: str) -> list[int]:
        """Numbers of a model's versions, ascending; empty for an unknown model.

        Raises:
            InvalidName: the name cannot be that of a model.
        """
        return self.storage.versions(check_name(model))

    def location(self, model: str, version: int) -> Path | str:
        """Where a version is or would be, to be displayed."""
        return self.storage.location(_folder(model, version))

    def path(self, model: str, version: int) -> Path:
        """The folder of a version, in a store that is a folder.

        Raises:
            UnknownModelError, UnknownVersionError: there is no such version.
            TypeError: the store is not a folder.
        """
        path = self.location(model, version)
        if not isinstance(path, Path):
            raise TypeError(f"{self.root} is not a folder: location() is for display")
        if str(version) not in self.storage.names_below(f"{model}/versions"):
            raise self.unknown(model, version)
        return path

    def manifest(self, model: str, version: int) -> Manifest:
        """Read a version's manifest, of which not a byte is decoded before its signature is verified.

        Raises:
            UnknownModelError, UnknownVersionError: it is not in the store.
            UntrustedArtifact: it is not signed, or not by a key that is trusted here.
            CorruptArtifact: it is about something else, or the version's files are not those that it
                lists.
        """
        return self.verified(model, version).manifest

    def verified(self, model: str, version: int, sha256: str | None = None) -> VerifiedManifest:
        """As `manifest`, with the key that signed it; `sha256` is that of the manifest that a release names."""
        folder = _folder(model, version)
        location = self.storage.location(folder)
        sizes = self.storage.files(folder)
        if not sizes:
            raise self.unknown(model, version)
        if SIGNATURE not in sizes:
            raise UntrustedArtifact(location, Distrust.UNSIGNED, _UNSIGNED)
        path = f"{folder}/{MANIFEST}"
        data = self._read(path, MANIFEST_LIMIT_BYTES)
        signature = self._read(f"{folder}/{SIGNATURE}", SIGNATURE_LIMIT_BYTES)
        key = self.ring.verify(Purpose.ARTIFACT, data, signature, about=location, model=model)
        actual_sha256 = describe_file(data).sha256
        if sha256 is not None and sha256 != actual_sha256:
            advice = f"Put back the files of {model}@{version}, or promote what is there now."
            raise UntrustedArtifact(location, Distrust.OTHER_BYTES, advice)
        manifest = Manifest.decode(data, self.storage.location(path))
        if (manifest.model, manifest.version) != (model, version):
            reason = f"it is about {manifest.model}@{manifest.version}"
            raise CorruptArtifact(self.storage.location(path), reason)
        check_belongs(self.identity(), manifest.store, self.storage, path, data)
        for name in manifest.files:
            _check_listed(name, location)
        stored = sizes.keys() - {MANIFEST, SIGNATURE}
        if extra := sorted(stored - manifest.files.keys()):
            raise CorruptArtifact(location, f"the manifest does not list {', '.join(extra)}")
        if missing := sorted(manifest.files.keys() - stored):
            raise CorruptArtifact(location, f"{', '.join(missing)} cannot be read: no file")
        for name, entry in manifest.files.items():
            if sizes[name] != entry.size:
                reason = f"{name} has {sizes[name]} bytes, the manifest says {entry.size}"
                raise CorruptArtifact(location, reason)
        return VerifiedManifest(manifest, key, actual_sha256)

    def read(self, manifest: Manifest, name: str) -> bytes:
        """Read a file once and verify these very bytes against the manifest.

        Raises:
            CorruptArtifact: size or sha256 differ, or the file is a link or does not exist.
        """
        path = f"{_folder(manifest.model, manifest.version)}/{name}"
        location = self.storage.location(path)
        expected = manifest.files.get(name)
        if expected is None:
            raise CorruptArtifact(location, "the manifest does not list this file")
        _check_listed(name, location)

        def read_verified() -> bytes:
            data = self._read(path, expected.size)
            if describe_file(data) != expected:
                reason = "its bytes are not those that were published (sha256)"
                raise CorruptArtifact(location, reason)
            return data

        return self._cache.fetch(expected, read_verified) if self._cache else read_verified()

    def read_all(self, manifest: Manifest) -> dict[str, bytes]:
        """The bytes of every file, all of them verified before any is used.

        Raises:
            CorruptArtifact: one of them is not what was published.
        """
        return {name: self.read(manifest, name) for name in manifest.files}

    def publish(self, manifest: Manifest, files: Mapping[str, bytes]) -> Manifest:
        """Sign and add a version: all of it at once, or nothing.

        Returns the manifest with the version's number, whatever number it had before.

        Raises:
            InvalidName: the model's name, or that of a file, cannot be one.
            UnusableKey: it cannot be signed.
            UntrustedArtifact: the key that signs here is not trusted for this model.
        """
        check_name(manifest.model)
        for name in files:
            check_file_name(name)
        if manifest.files.keys() != files.keys() or {MANIFEST, SIGNATURE} & files.keys():
            raise ValueError("the manifest must list the files that are published, and no other")
        identity, marks = self.make_identity(), LogMarks.from_environment()
        # Somebody may have removed the claims from the store.
        highest = marks.highest_version(identity.id, manifest.model)
        manifest = replace(manifest, store=identity.id, format_version=FORMAT_VERSION)
        while True:
            number = self.storage.claim_number(manifest.model, above=highest)
            manifest = replace(manifest, version=number)
            folder, data = _folder(manifest.model, number), manifest.encode()
            # An earlier release of Scoreline may have taken the number in a folder; it claims none.
            with contextlib.suppress(FileExistsError):
                self.storage.create(f"{folder}/{MANIFEST}", data)
                break
        try:
            marks.note_version(identity.id, manifest.model, number)
            signature = self.ring.sign(Purpose.ARTIFACT, data)
            # The key that signs here may be trusted for other models only.
            location = self.storage.location(folder)
            self.ring.verify(
                Purpose.ARTIFACT, data, signature, about=location, model=manifest.model
            )
            self.storage.write({f"{folder}/{name}": content for name, content in files.items()})
            self.storage.create(f"{folder}/{SIGNATURE}", signature)
        # Even Ctrl-C: the files that were written are not listed, but take room.
        except BaseException:
            with contextlib.suppress(ArtifactError):
                self.storage.remove_folder(folder)
            raise
        return manifest

    def unknown(self, model: str, version: int) -> UnknownModelError | UnknownVersionError:
        """The error of a version that does not exist, with what exists."""
        versions = self.versions(model)
        if versions:
            return UnknownVersionError(model, version, versions)
        # By the models' folders alone: a request for an unknown model must not cost many requests to the bucket.
        return UnknownModelError(model, self.root, sorted(filter(is_name, self.storage.names(""))))

    @cached_property
    def _cache(self) -> FileCache | None:
        return None if isinstance(self.root, Path) else FileCache.from_environment()

    def _read(self, path: str, limit_bytes: int) -> bytes:
        try:
            return self.storage.read(path, limit_bytes=limit_bytes)
        except FileNotFoundError as error:
            reason = "it cannot be read: no file"
            raise CorruptArtifact(self.storage.location(path), reason) from error


def _folder(model: str, version: int) -> str:
    return f"{check_name(model)}/versions/{int(version)}"


def _check_listed(name: str, location: object) -> None:
    try:
        check_file_name(name)
    except InvalidName as error:
        reason = f"the manifest lists a file that cannot be: {error}"
        raise CorruptArtifact(location, reason) from error
