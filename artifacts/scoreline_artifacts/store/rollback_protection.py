"""How far release logs were seen to go on this machine, so that none of them goes back unnoticed.

Who can write to the store can take the last entries of a log away, and what is left is signed all the
same. A running worker never goes back; for one that starts again, the number that was seen is kept in
a small file under the cache folder, by the log's own random number, which every entry is signed with.
A log that was begun anew, in another store, is another log.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scoreline_artifacts.errors import LogTruncated
from scoreline_artifacts.store import cache

if TYPE_CHECKING:
    from scoreline_artifacts.store.releases import Release

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HighWater:
    """The numbers that were seen, one file for each log."""

    folder: Path

    @classmethod
    def from_environment(cls) -> HighWater:
        """The marks under SCORELINE_CACHE, else under the user's caches."""
        return cls(cache.default_folder() / "seen")

    def check(self, release: Release) -> None:
        """Compare the last release of a log with what was seen, and remember it.

        A folder that cannot be used is a warning: then only running processes notice.

        Raises:
            LogTruncated: a later one was seen.
        """
        # Whatever stands in a signed entry: it must not lead out of the folder.
        mark = self.folder / hashlib.sha256(release.log.encode()).hexdigest()
        try:
            seen = self._raise_to(mark, release.sequence)
        except OSError as error:
            logger.warning("mark_unusable path=%s: %s; nothing is remembered", mark, error)
            return
        if seen > release.sequence:
            raise LogTruncated(release.model, release.alias, release.sequence, seen, mark)

    def _raise_to(self, mark: Path, number: int) -> int:
        """The higher of a number and what the mark says, which is the mark from now on."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.closing(_Locked(mark)) as file:
            seen = max(file.number(), number)
            if seen == number:
                file.write(number)
            return seen


class _Locked:
    """A mark that nobody else reads or writes meanwhile."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def number(self) -> int:
        text = os.pread(self._descriptor, 20, 0)
        # Padded to one size, so that it is never half of a number; anything else is none.
        return int(text) if text.isdigit() else 0

    def write(self, number: int) -> None:
        os.pwrite(self._descriptor, f"{number:020d}".encode(), 0)

    def close(self) -> None:
        # A child that was forked meanwhile has the descriptor as well, and would keep the lock.
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        os.close(self._descriptor)
