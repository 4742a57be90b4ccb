"""The artifact store: a directory of immutable versions.

    <root>/<model>/versions/<n>/…                 one artifact each
    <root>/<model>/releases/<alias>/<number>.json one release each, see releases.py
    <root>/.staging/…                             what is being published

A version appears by one rename of a complete directory, so nobody sees half of one. Two publishers
that want the same number: the second one's rename fails, and it takes the next.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from scoreline_artifacts.errors import (
    CorruptArtifact,
    InvalidName,
    UnknownModelError,
    UnknownVersionError,
)
from scoreline_artifacts.manifest import MANIFEST, FileEntry, Manifest

DEFAULT_ROOT = "artifacts/store"
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_NUMBER = re.compile(r"[1-9][0-9]*")
_RULE = "small letters, digits, '_', '.' and '-', starting with a letter or digit, at most 64 characters"


def check_name(name: str) -> str:
    """Return a name that may be a directory's.

    Raises:
        InvalidName: it may not.
    """
    if not is_name(name):
        raise InvalidName(name, _RULE)
    return name


def is_name(name: object) -> bool:
    """Whether something may be a directory's name."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def describe_file(data: bytes) -> FileEntry:
    """Size and sha256 of a file's bytes."""
    return FileEntry(len(data), hashlib.sha256(data).hexdigest())


@dataclass(frozen=True, slots=True)
class Store:
    """Artifacts under one directory."""

    root: Path

    @classmethod
    def from_environment(cls) -> Store:
        """The store that SCORELINE_ARTIFACTS names, else `artifacts/store` under this directory."""
        return cls(Path(os.environ.get("SCORELINE_ARTIFACTS") or DEFAULT_ROOT))

    def models(self) -> list[str]:
        """Names of all models that have a version, sorted."""
        found = (one.parent.name for one in self.root.glob("*/versions") if one.is_dir())
        return sorted(name for name in found if is_name(name) and self.versions(name))

    def versions(self, model: str) -> list[int]:
        """Numbers of a model's versions, ascending; empty for an unknown model.

        Raises:
            InvalidName: the name cannot be that of a model.
        """
        directory = self.root / check_name(model) / "versions"
        try:
            names = [one.name for one in directory.iterdir()]
        except FileNotFoundError:
            return []
        return sorted(int(name) for name in names if _NUMBER.fullmatch(name))

    def path(self, model: str, version: int) -> Path:
        """Where a version is.

        Raises:
            UnknownModelError, UnknownVersionError: it is not there.
            CorruptArtifact: a link stands in its place.
        """
        path = self.root / check_name(model) / "versions" / str(version)
        if path.is_symlink():
            raise CorruptArtifact(path, "it is a link; a version is a directory of its own")
        if not path.is_dir():
            versions = self.versions(model)
            if not versions:
                raise UnknownModelError(model, self.root, self.models())
            raise UnknownVersionError(model, version, versions)
        return path

    def manifest(self, model: str, version: int) -> Manifest:
        """Read a version's manifest, which must be about this model and version.

        Raises:
            CorruptArtifact: it is not.
        """
        path = self.path(model, version) / MANIFEST
        manifest = Manifest.decode(_read(path), path)
        if (manifest.model, manifest.version) != (model, version):
            raise CorruptArtifact(path, f"it is about {manifest.model}@{manifest.version}")
        return manifest

    def read(self, manifest: Manifest, name: str) -> bytes:
        """Read a file once and verify these very bytes against the manifest.

        Raises:
            CorruptArtifact: size or sha256 differ, or the file is a link or not there.
        """
        path = self.path(manifest.model, manifest.version) / name
        expected = manifest.files.get(name)
        if expected is None:
            raise CorruptArtifact(path, "the manifest does not list this file")
        data = _read(path, expected.size)
        if describe_file(data) != expected:
            raise CorruptArtifact(path, "its bytes are not those that were published (sha256)")
        return data

    def publish(
        self, model: str, files: Mapping[str, bytes], make_manifest: Callable[[int], Manifest]
    ) -> Manifest:
        """Add a version: all of it at once, or nothing.

        `make_manifest` is called with the version's number, again if another publisher was faster.
        """
        versions = self.root / check_name(model) / "versions"
        versions.mkdir(parents=True, exist_ok=True)
        staging = self.root / ".staging"
        staging.mkdir(exist_ok=True)
        staged = Path(tempfile.mkdtemp(dir=staging))
        try:
            for name, data in files.items():
                (staged / name).parent.mkdir(parents=True, exist_ok=True)
                _write(staged / name, data)
            while True:
                manifest = make_manifest(max(self.versions(model), default=0) + 1)
                _write(staged / MANIFEST, manifest.encode())
                staged.chmod(0o755)
                if _moved(staged, versions / str(manifest.version)):
                    _sync_directory(versions)
                    return manifest
        finally:
            shutil.rmtree(staged, ignore_errors=True)


def _moved(staged: Path, place: Path) -> bool:
    """Rename a directory; False if another publisher has just taken the place."""
    try:
        # Fails on a directory that is not empty, so a version is never replaced.
        staged.rename(place)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def _read(path: Path, size: int | None = None) -> bytes:
    try:
        # No link may stand in for a file of an artifact.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            found = os.fstat(file.fileno()).st_size
            if size is not None and found != size:
                raise CorruptArtifact(path, f"it has {found} bytes, the manifest says {size}")
            return file.read()
    except OSError as error:
        raise CorruptArtifact(path, f"it cannot be read: {error.strerror}") from error


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    # By now everybody sees what is new in there: a failure must not be told as if it were not.
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_new(path: Path, data: bytes) -> None:
    """Create a file with all of its content at once.

    Raises:
        FileExistsError: somebody else created it first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        os.link(name, path)
        _sync_directory(path.parent)
    finally:
        Path(name).unlink()
