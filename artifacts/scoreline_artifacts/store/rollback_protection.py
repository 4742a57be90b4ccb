"""How far release logs were seen to go on this machine, so that none of them goes back unnoticed.

Whoever can write to the store can take the last entries of a log away, and what is left is still signed.
A running worker never goes back; for one that starts again, the last number that was seen is kept in a
small file in the cache folder, under the log's own random number, which is part of every signed entry.
A log that was begun anew, in another store, is another log.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from scoreline_artifacts.errors import LogTruncated
from scoreline_artifacts.store.local_files import write_file
from scoreline_client.settings import ArtifactSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LogMarks:
    """The numbers that were seen, one file for each log."""

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
