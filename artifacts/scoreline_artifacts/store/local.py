"""An artifact store in a folder of this machine, or of a network file system.

    <root>/<model>/versions/<n>/…                 one artifact each
    <root>/<model>/releases/<alias>/<number>.json one release each, see releases.py
    <root>/<model>/pins/<n>.json                  versions that are kept, see pruning.py
    <root>/.staging/…                             what is being published or removed

A version appears by one rename of a complete folder, so nobody sees half of one. Two publishers that
want the same number: the second one's rename fails, and it takes the next. No link below the root is
ever followed: every part of a path is opened from the one before it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from scoreline_artifacts.errors import CorruptArtifact, StoreUnreachable, UnsuitableStore
from scoreline_artifacts.store.backends import Seal
from scoreline_artifacts.store.files import make_folder, sync_folder, write_new, write_synced
from scoreline_artifacts.store.names import version_numbers

_STAGING = ".staging"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
# A pipe in a file's place must not make us wait for somebody who writes into it.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_NOT_OURS = frozenset({errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.ENAMETOOLONG})
"""How the system refuses to open what no publisher has put there: a link, a socket, a file on the way."""
_SHUT = frozenset({errno.EACCES, errno.EPERM})
"""How it refuses what is shut for this user: a matter of that folder or file, not of the whole store."""
_ADVICE = (
    "Check SCORELINE_ARTIFACTS, the rights of this user on the folder, and the room on its disk."
)


@dataclass(frozen=True, slots=True)
class LocalFolder:
    """A store's root as a folder."""

    root: Path

    def place(self, path: str) -> Path:
        return self.root / path

    def names(self, folder: str) -> list[str]:
        try:
            with (
                self.reached(FileNotFoundError),
                self._opened(folder) as descriptor,
                os.scandir(descriptor) as entries,
            ):
                return [entry.name for entry in entries]
        except FileNotFoundError:
            return []

    def names_below(self, folder: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        # A stray file, or a link, is no folder of ours, and in nobody's way.
        with contextlib.suppress(CorruptArtifact):
            for name in self.names(folder):
                with contextlib.suppress(CorruptArtifact):
                    found[name] = self.names(f"{folder}/{name}")
        return found

    def files(self, folder: str) -> dict[str, int]:
        with self.reached(FileNotFoundError), self._opened(folder) as descriptor:
            return dict(self._walk(descriptor, folder, ""))

    def read(self, path: str, *, limit_bytes: int) -> bytes:
        folder, _, name = path.rpartition("/")
        with self.reached(FileNotFoundError), self._opened(folder) as parent:
            descriptor = self._open(name, _FILE, parent, path)
            with os.fdopen(descriptor, "rb") as file:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise CorruptArtifact(self.place(path), "it is no file")
                if status.st_size > limit_bytes:
                    reason = (
                        f"it has {status.st_size} bytes, and not more than {limit_bytes} may be"
                    )
                    raise CorruptArtifact(self.place(path), reason)
                data = file.read(limit_bytes + 1)
                if len(data) > limit_bytes:
                    raise CorruptArtifact(self.place(path), "it grows while it is read")
                return data

    def create(self, path: str, data: bytes) -> None:
        with self.reached(FileExistsError):
            write_new(self.root / path, data)

    def remove(self, path: str) -> None:
        with self.reached():
            (self.root / path).unlink(missing_ok=True)

    def versions(self, model: str) -> list[int]:
        return version_numbers(self.names(f"{model}/versions"))

    def publish(self, model: str, files: Mapping[str, bytes], seal: Seal) -> int:
        versions = self.root / model / "versions"
        with self.reached():
            make_folder(versions)
            staged = self._staged()
            try:
                for name, data in files.items():
                    _write_below(staged, name, data)
                while True:
                    number = max(self.versions(model), default=0) + 1
                    for name, data in seal(number).items():
                        _write_below(staged, name, data)
                    staged.chmod(0o755)
                    if _moved(staged, versions / str(number)):
                        sync_folder(versions)
                        return number
            finally:
                shutil.rmtree(staged, ignore_errors=True)

    def remove_version(self, model: str, version: int) -> None:
        with self.reached():
            aside = self._staged()
            # Somebody who prunes at the same time may have been faster.
            with contextlib.suppress(FileNotFoundError):
                (self.root / model / "versions" / str(version)).rename(aside / str(version))
            shutil.rmtree(aside, ignore_errors=True)

    def remove_leftovers(self, model: str, *, before: float) -> list[str]:
        removed = []
        with self.reached():
            places = [
                *(self.root / _STAGING).glob("*"),
                *(self.root / model / "releases").glob("*/.writing-*"),
            ]
            for place in places:
                # Whoever made it may have finished with it in this very moment.
                with contextlib.suppress(FileNotFoundError):
                    if place.lstat().st_mtime < before:
                        _remove(place)
                        removed.append(str(place.relative_to(self.root)))
        return removed

    @contextlib.contextmanager
    def reached(self, *expected: type[OSError]) -> Iterator[None]:
        """Tell what the operating system refuses as an error of the store, but for what is expected.

        Raises:
            UnsuitableStore: the root, or something above it, is there and is no folder.
            StoreUnreachable: anything else, such as missing rights or a full disk.
        """
        try:
            yield
        except expected:
            raise
        except OSError as error:
            if error.errno == errno.ENOTDIR and not os.path.isdir(self.root):  # noqa: PTH112 - never raises
                raise UnsuitableStore(
                    self.root, "it, or something above it, is no folder"
                ) from error
            raise StoreUnreachable(self.root, error, _ADVICE) from error

    def _staged(self) -> Path:
        staging = self.root / _STAGING
        make_folder(staging)
        return Path(tempfile.mkdtemp(dir=staging))

    @contextlib.contextmanager
    def _opened(self, folder: str) -> Iterator[int]:
        """A folder below the root, opened part by part."""
        # The root is the operator's choice, and may be a link.
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for part in filter(None, folder.split("/")):
                inner = self._open(part, _FOLDER, descriptor, folder)
                os.close(descriptor)
                descriptor = inner
            yield descriptor
        finally:
            os.close(descriptor)

    def _walk(self, descriptor: int, folder: str, prefix: str) -> Iterator[tuple[str, int]]:
        with os.scandir(descriptor) as entries:
            for entry in entries:
                name = prefix + entry.name
                if entry.is_file(follow_symlinks=False):
                    yield name, entry.stat(follow_symlinks=False).st_size
                elif entry.is_dir(follow_symlinks=False):
                    inner = os.open(entry.name, _FOLDER, dir_fd=descriptor)
                    try:
                        below = dict(self._walk(inner, folder, f"{name}/"))
                    finally:
                        os.close(inner)
                    if not below:
                        raise CorruptArtifact(self.place(f"{folder}/{name}"), "it is empty")
                    yield from below.items()
                else:
                    reason = "it is a link, or something else that is neither file nor folder"
                    raise CorruptArtifact(self.place(f"{folder}/{name}"), reason)

    def _open(self, name: str, flags: int, parent: int, path: str) -> int:
        try:
            return os.open(name, flags, dir_fd=parent)
        except OSError as error:
            if error.errno in _NOT_OURS:
                reason = "it is a link, or no folder, or behind one"
            elif error.errno in _SHUT:
                reason = f"it cannot be read: {error.strerror}"
            else:
                raise
            raise CorruptArtifact(self.place(path), reason) from error


def _moved(staged: Path, place: Path) -> bool:
    """Rename a folder; False if another publisher has just taken the place."""
    try:
        # Fails on a folder that is not empty, so a version is never replaced.
        staged.rename(place)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def _write_below(folder: Path, name: str, data: bytes) -> None:
    path = folder / name
    make_folder(path.parent)
    write_synced(path, data)


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place, ignore_errors=True)
    else:
        place.unlink()
