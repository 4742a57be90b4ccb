"""Files that were fetched from an object store, kept on this machine under their sha256.

    <folder>/files/<first two digits>/<sha256>   a file of some artifact
    <folder>/locks/…                             held while files are fetched, and marks are written
    <folder>/seen/…                              see LogMarks in releases.py

The folder is SCORELINE_CACHE, else `scoreline` under the user's caches. What is read from it is
verified like what comes from the store, so a file that was damaged or changed is fetched again. It
may be emptied at any time. Processes share it: one fetches, the others wait for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from scoreline_artifacts.manifest import FileEntry
from scoreline_artifacts.store.local_files import write_file
from scoreline_client.settings import ArtifactSettings

logger = logging.getLogger(__name__)

LIMIT_BYTES = 10 * 1024**3
"""Size of all files together; beyond it, those that were not used for the longest time are removed."""


@dataclass(frozen=True, slots=True)
class FileCache:
    """Verified files by their sha256."""

    folder: Path
    limit_bytes: int = LIMIT_BYTES

    @classmethod
    def from_environment(cls) -> FileCache:
        """The cache that SCORELINE_CACHE names, else the user's own."""
        return cls(Path(ArtifactSettings.from_environment().cache_folder))

    def fetch(self, entry: FileEntry, download: Callable[[], bytes]) -> bytes:
        """The bytes of a file, from here if they are right, else from `download`, which verifies them.

        Where the folder cannot be used, every file is downloaded.
        """
        path = self.folder / "files" / entry.sha256[:2] / entry.sha256
        with contextlib.ExitStack() as stack:
            try:
                lock = self.folder / "locks" / entry.sha256[:2]
                lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                stack.enter_context(FileLock(lock, mode=0o600))
                data = self._read(path, entry)
            except OSError as error:
                logger.warning(
                    "cache_unusable folder=%s: %s; files are fetched", self.folder, error
                )
                return download()
            if data is None:
                data = download()
                # A full disk must not keep a version from being served.
                with contextlib.suppress(OSError):
                    if entry.size <= self.limit_bytes:
                        write_file(path, data, mode=0o600)
                        self._make_room(keep=path)
            return data

    def _read(self, path: Path, entry: FileEntry) -> bytes | None:
        try:
            data = path.read_bytes() if path.stat().st_size == entry.size else b""
        except FileNotFoundError:
            return None
        if len(data) != entry.size or hashlib.sha256(data).hexdigest() != entry.sha256:
            logger.warning("cached_file_damaged sha256=%s: it is fetched again", entry.sha256)
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # used now
        return data

    def _make_room(self, keep: Path) -> None:
        files = []
        for path in (self.folder / "files").glob("*/*"):
            with contextlib.suppress(FileNotFoundError):  # another process made room
                status = path.stat()
                files.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= self.limit_bytes:
                return
            if path != keep:
                path.unlink(missing_ok=True)
                total -= size
