"""Files that were fetched from an object store, kept on this machine under their sha256.

    <folder>/files/<first two digits>/<sha256>   a file of some artifact
    <folder>/locks/<first two digits>            who fetches files that begin like this
    <folder>/seen/…                              see high_water.py

The folder is SCORELINE_CACHE, else `scoreline` under the user's caches. What is read from it is
verified like what comes from the store, so a file that went bad, or was changed, is fetched again. It
may be emptied at any time. Processes share it: one fetches, the others wait and find.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from scoreline_artifacts.manifest import FileEntry
from scoreline_artifacts.store.files import write_over

logger = logging.getLogger(__name__)

LIMIT_BYTES = 10 * 1024**3
"""What all files together may have; those that were not used for the longest time go first."""


def default_folder() -> Path:
    """The folder that SCORELINE_CACHE names, else `scoreline` under the user's caches."""
    if named := os.environ.get("SCORELINE_CACHE"):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(  # noqa: PTH118 - "~" may stay as it is
        os.path.expanduser("~"),  # noqa: PTH111 - Path.home() raises where nobody is at home
        ".cache",
    )
    return Path(base) / "scoreline"


@dataclass(frozen=True, slots=True)
class FileCache:
    """Verified files by their sha256."""

    folder: Path
    limit_bytes: int = LIMIT_BYTES

    @classmethod
    def from_environment(cls) -> FileCache:
        """The cache that SCORELINE_CACHE names, else the user's own."""
        return cls(default_folder())

    def fetch(self, entry: FileEntry, download: Callable[[], bytes]) -> bytes:
        """The bytes of a file, from here if they are right, else from `download`, which verifies them.

        A folder that cannot be used costs only time: then everything is downloaded.
        """
        try:
            with self._locked(entry.sha256):
                data = self._read(entry)
                if data is not None:
                    return data
                data = download()
                self._keep(entry, data)
                return data
        except _Unusable as error:
            logger.warning("cache_unusable folder=%s: %s; files are fetched", self.folder, error)
            return download()

    def _read(self, entry: FileEntry) -> bytes | None:
        path = self._path(entry.sha256)
        try:
            data = path.read_bytes() if path.stat().st_size == entry.size else b""
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _Unusable(error) from error
        if len(data) != entry.size or hashlib.sha256(data).hexdigest() != entry.sha256:
            logger.warning("cached_file_damaged sha256=%s: it is fetched again", entry.sha256)
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # used now
        return data

    def _keep(self, entry: FileEntry, data: bytes) -> None:
        if entry.size > self.limit_bytes:
            return
        # A full disk must not keep a version from being served.
        with contextlib.suppress(OSError):
            write_over(self._path(entry.sha256), data, mode=0o600)
            self._make_room(keep=entry.sha256)

    def _make_room(self, keep: str) -> None:
        found = []
        for path in (self.folder / "files").glob("*/*"):
            with contextlib.suppress(FileNotFoundError):  # another process made room
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self.limit_bytes:
                return
            if path.name != keep:
                path.unlink(missing_ok=True)
                total -= size

    @contextlib.contextmanager
    def _locked(self, sha256: str) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            try:
                folder = self.folder / "locks"
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                descriptor = os.open(folder / sha256[:2], os.O_RDWR | os.O_CREAT, 0o600)
                # Let go of by itself when this process ends, however it ends.
                stack.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                # A child that was forked meanwhile has the descriptor too, and would keep the lock.
                stack.callback(fcntl.flock, descriptor, fcntl.LOCK_UN)
            except OSError as error:
                raise _Unusable(error) from error
            yield

    def _path(self, sha256: str) -> Path:
        return self.folder / "files" / sha256[:2] / sha256


class _Unusable(Exception):
    """Raised when the folder cannot be used."""
