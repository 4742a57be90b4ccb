"""The folder of the files that callers have sent, and of their results: one folder in it for each job.

    ID/job.json       what is to be done, for whom; written last, and never changed
    ID/state.json     how far it is
    ID/cancelled      it was cancelled, whatever its state says: who scores it may write one more
    ID/lock           held (flock) by the process that receives or scores the file, as long as it lives
    ID/input          as it arrived, unpacked
    ID/output.csv     the result, and what stands beside it while it grows; see scoreline_client.files.sink

A folder takes its name when its input is complete, and loses it before anything of it is removed. So several
processes share a spool, and one that is killed leaves nothing that another does not go on with or remove.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import msgspec

from scoreline_client.codes import Code
from scoreline_client.errors import JobCancelled
from scoreline_client.jobs import JobStatus
from scoreline_client.protocol.messages import new_id
from scoreline_gateway.v1.jobs import JobState, error_of, replace_state

NEWCOMER_S = 60.0
"""Seconds for which a folder without a holder may be one that is just being made."""
_ARRIVING, _LEAVING, _CANCELLED = "arriving-", "leaving-", "cancelled"


class FileTask(msgspec.Struct, frozen=True, kw_only=True):
    """How a file is to be scored, and for whom."""

    principal: str
    model: str
    kind: Literal["csv", "jsonl", "parquet"]
    output: str
    """The result's name in the folder."""
    query: list[tuple[str, str]]
    """The options, as they came in the query."""
    fingerprint: str
    """The sha256 of all that was asked."""
    created_at: str


class StoredJob:
    """The folder of a job."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.id = folder.name

    @property
    def input(self) -> Path:
        """The file that is to be scored."""
        return self.folder / "input"

    def read_task(self) -> FileTask:
        """The task of the job; raises FileNotFoundError when it was removed."""
        return msgspec.json.decode((self.folder / "job.json").read_bytes(), type=FileTask)

    def read_state(self) -> JobState:
        """The state of the job; raises FileNotFoundError when it was removed."""
        state = msgspec.json.decode((self.folder / "state.json").read_bytes(), type=JobState)
        return cancelled(state) if self.is_cancelled else state

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody has cancelled it."""
        return (self.folder / _CANCELLED).exists()

    def write(self, name: str, value: msgspec.Struct) -> None:
        """Write `job.json` or `state.json`, whole or not at all, whatever is killed."""
        new = self.folder / f"{name}.{os.getpid()}"
        with new.open("wb") as file:
            file.write(msgspec.json.encode(value))
        new.replace(self.folder / name)

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Hold the job, if no other process does; the system lets go of it when this one dies."""
        with (self.folder / "lock").open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    def cancel(self) -> JobState:
        """Cancel it and remove its files; it is known as cancelled for as long as a result would be kept.

        Raises:
            FileNotFoundError: it was removed.
        """
        (self.folder / _CANCELLED).touch()
        state = self.read_state()
        self.write("state.json", state)
        self.strip()
        return state

    def strip(self) -> None:
        """Remove all files of a cancelled job but those of its task and state."""
        for entry in os.scandir(self.folder):
            if entry.name not in (_CANCELLED, "job.json", "state.json", "lock"):
                with suppress(FileNotFoundError):
                    Path(entry).unlink()

    def remove(self) -> None:
        """Remove it and all of its files; whoever works on it finds nothing there any more."""
        leaving = self.folder.with_name(_LEAVING + new_id())
        with suppress(FileNotFoundError):
            self.folder.rename(leaving)
            shutil.rmtree(leaving, ignore_errors=True)


class Spool:
    """All jobs of files of this machine."""

    def __init__(self, folder: Path, *, most_bytes: int, kept_s: float) -> None:
        self.folder = folder.expanduser()
        self._most_bytes = most_bytes
        self._kept_s = kept_s

    def find(self, job_id: str) -> StoredJob | None:
        """The job of this id, unless it is none of a file, or was removed."""
        folder = self.folder / job_id
        return StoredJob(folder) if (folder / "job.json").exists() else None

    def jobs(self) -> list[StoredJob]:
        """All jobs, whatever their state."""
        names = self._names()
        return [job for name in names if (job := self.find(name)) is not None]

    def arriving(self) -> StoredJob:
        """A folder for a file that arrives; the caller holds it until `keep`, or removes it."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = self.folder / f"{_ARRIVING}{new_id()}"
        folder.mkdir(mode=0o700)
        return StoredJob(folder)

    def keep(self, arrived: StoredJob, job_id: str) -> StoredJob | None:
        """Give a folder whose input is complete its name; None if there is one of this name."""
        kept = StoredJob(self.folder / job_id)
        try:
            arrived.folder.rename(kept.folder)
        except OSError:
            if not kept.folder.exists():
                raise
            return None
        return kept

    def has_room(self) -> bool:
        """Whether all files together stay below the limit, if the oldest results give way."""
        used = {name: _size(self.folder / name) for name in self._names()}
        too_much = sum(used.values()) - self._most_bytes
        if too_much <= 0:
            return True
        over = [job for job in self.jobs() if _is_over(job)]
        for job in sorted(over, key=_ended_at):
            job.remove()
            too_much -= used.get(job.id, 0)
            if too_much <= 0:
                return True
        return False

    def sweep(self) -> None:
        """Remove results that were kept long enough, and folders that killed processes have left half made or removed."""
        now = time.time()
        for name in self._names():
            job = StoredJob(self.folder / name)
            with suppress(OSError):
                if name.startswith(_LEAVING):
                    shutil.rmtree(job.folder, ignore_errors=True)
                elif name.startswith(_ARRIVING):
                    is_new = job.folder.stat().st_mtime > now - NEWCOMER_S
                    with job.held() as is_free:
                        if is_free and not is_new:
                            job.remove()
                elif now - _ended_at(job) > self._kept_s:
                    job.remove()
                elif job.is_cancelled:
                    job.strip()

    def _names(self) -> list[str]:
        try:
            return sorted(entry.name for entry in os.scandir(self.folder) if entry.is_dir())
        except FileNotFoundError:
            return []


def cancelled(state: JobState) -> JobState:
    """The state of a job that was cancelled in `state`."""
    error = error_of(JobCancelled(Code.CANCELLED, f"job {state.id} was cancelled"))
    return replace_state(state, JobStatus.CANCELLED, error=error)


def _is_over(job: StoredJob) -> bool:
    try:
        return job.read_state().is_over
    except (OSError, msgspec.DecodeError):
        return False


def _ended_at(job: StoredJob) -> float:
    """When the job's state was last written, which is when a job that is over has ended."""
    with suppress(OSError):
        return (job.folder / "state.json").stat().st_mtime
    return time.time()


def _size(folder: Path) -> int:
    size = 0
    with suppress(OSError):
        for entry in os.scandir(folder):
            with suppress(OSError):
                size += entry.stat(follow_symlinks=False).st_size
    return size
