"""What this machine has seen of stores, so that none of them goes back unnoticed.

    <folder>/<sha256 of a log's number>     the number of the last release of the log
    <folder>/alias-<sha256>                 which log the releases of an alias are, by store, model and alias
    <folder>/versions-<sha256>              the highest number that a version was given, by store and model

The folder is `seen` in SCORELINE_CACHE. Marks in a folder of another user's, or that others may write to, are not
believed.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

from scoreline_artifacts.errors import LogReplaced, LogTruncated
from scoreline_artifacts.store.local_files import write_file
from scoreline_client.settings import ArtifactSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LogMarks:
    """How far release logs were seen to go on this machine, and which logs they were.

    Whoever can write to the store can take the last entries of a log away, and the entries before them are still
    signed. A running worker never goes back; a worker that starts again reads the marks. A mark that cannot be
    written is a warning: this process alone remembers it.
    """

    folder: Path
    _memory: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def from_environment(cls) -> LogMarks:
        """The marks under SCORELINE_CACHE, else under the user's caches."""
        return cls(Path(ArtifactSettings.from_environment().cache_folder) / "seen")

    def check(self, store: str, model: str, alias: str, *, log: str, number: int) -> None:
        """Compare the last release of an alias with what was seen, and remember it.

        `store` is the store's identity or address, `log` the log's own random number, which every entry has,
        `number` that of its last release.

        Raises:
            LogReplaced: another log was seen.
            LogTruncated: a later release was seen.
        """
        with self._locked() as folder:
            seen_log = self._read(folder, _alias_mark(store, model, alias)) or log
            seen_number = self._number(folder, _log_mark(log))
            if seen_log == log:
                self._write(folder, _alias_mark(store, model, alias), log)
                if number > seen_number:
                    self._write(folder, _log_mark(log), f"{number:020d}")
        if seen_log != log:
            raise LogReplaced(model, alias)
        if seen_number > number:
            raise LogTruncated(model, alias, number, seen_number, self.folder / _log_mark(log))

    def log_of(self, store: str, model: str, alias: str) -> tuple[str, int] | None:
        """The log that an alias was seen to have, and the number of its last release."""
        with self._locked() as folder:
            log = self._read(folder, _alias_mark(store, model, alias))
            return (log, self._number(folder, _log_mark(log))) if log else None

    def accept(self, store: str, model: str, alias: str, *, log: str, number: int) -> None:
        """Remember the log of an alias, and its last release, whatever was seen before."""
        with self._locked() as folder:
            self._write(folder, _alias_mark(store, model, alias), log)
            self._write(folder, _log_mark(log), f"{number:020d}")

    def highest_version(self, store: str, model: str) -> int:
        """The highest number that a version of a model was given, as far as this machine knows."""
        with self._locked() as folder:
            return self._number(folder, _versions_mark(store, model))

    def note_version(self, store: str, model: str, number: int) -> None:
        """Remember the number that a version was given."""
        with self._locked() as folder:
            mark = _versions_mark(store, model)
            if number > self._number(folder, mark):
                self._write(folder, mark, f"{number:020d}")

    @contextmanager
    def _locked(self) -> Iterator[Path | None]:
        """Hold the lock of the marks and yield their folder; None if it cannot be used."""
        lock = FileLock(self.folder.with_name("locks") / "seen", mode=0o600)
        try:
            for folder in (self.folder, self.folder.with_name("locks")):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = self.folder.stat()
            if status.st_uid != os.geteuid() or status.st_mode & 0o022:
                raise PermissionError("it is another user's, or others may write to it")
            lock.acquire()
        except OSError as error:
            self._warn(error)
            yield None
            return
        try:
            yield self.folder
        finally:
            lock.release()

    def _read(self, folder: Path | None, mark: str) -> str:
        if folder is not None:
            try:
                return (folder / mark).read_text()
            except FileNotFoundError:
                return ""
            except (OSError, ValueError) as error:
                self._warn(error)
        return self._memory.get(mark, "")

    def _number(self, folder: Path | None, mark: str) -> int:
        text = self._read(folder, mark)
        return int(text) if text.isdigit() else 0

    def _write(self, folder: Path | None, mark: str, text: str) -> None:
        self._memory[mark] = text
        if folder is not None and self._read(folder, mark) != text:
            try:
                write_file(folder / mark, text.encode(), mode=0o600)
            except OSError as error:
                self._warn(error)

    def _warn(self, error: Exception) -> None:
        logger.warning(
            "rollback_mark_unwritable path=%s: %s; removed releases go unnoticed after a restart",
            self.folder,
            error,
        )


# Hashed, since names and a log's number may be any text: they must not lead out of the folder.


def _log_mark(log: str) -> str:
    return hashlib.sha256(log.encode()).hexdigest()


def _alias_mark(store: str, model: str, alias: str) -> str:
    return "alias-" + hashlib.sha256(f"{store}\n{model}\n{alias}".encode()).hexdigest()


def _versions_mark(store: str, model: str) -> str:
    return "versions-" + hashlib.sha256(f"{store}\n{model}".encode()).hexdigest()
