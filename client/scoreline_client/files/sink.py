"""Names and writes the output: a part file that grows, the error report, and both complete at the end.

`OUT.part` and `OUT.errors.csv.part` grow, and `OUT.journal` says how far they are. At the end they are
brought to the disk and take their names. An output to a URL grows in a directory of this machine and is
sent when it is complete; output to standard output leaves at once and cannot be resumed.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import glob
import gzip
import hashlib
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scoreline_client.codes import Code
from scoreline_client.errors import FileRefused
from scoreline_client.files.reader import DEFAULT_SIZES
from scoreline_client.files.source import STANDARD, file_system, is_url, unreadable, zstd

REPORT_COLUMNS = ("row", "line", "column", "value", "code", "message")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_many(sources: tuple[str, ...], target: str) -> bool:
    """Whether the target must be a directory: there are several inputs, or it is a directory already."""
    several = len(sources) > 1 or _is_pattern(sources[0])
    # Not Path.is_dir: it raises where permissions are missing. Opening the file reports that later.
    is_directory = not is_url(target) and os.path.isdir(target)  # noqa: PTH112
    return several or target.endswith("/") or is_directory


def outputs_for(sources: Iterable[str], directory: str) -> list[tuple[str, str]]:
    """Each input, patterns expanded and sorted by name, and its output in a directory.

    Raises:
        FileRefused: a pattern matches nothing, two outputs would have the same name, or the directory
            cannot be made.
    """
    inputs: list[str] = []
    for source in sources:
        names = [source]
        if _is_pattern(source):
            if is_url(source):
                fs, path = file_system(source)
                try:
                    names = [str(fs.unstrip_protocol(match)) for match in fs.glob(path)]
                except OSError as error:
                    raise unreadable(source, error) from error
            else:
                matches = glob.iglob(source, recursive=True)  # noqa: PTH207 - it may be absolute
                names = [match for match in matches if os.path.isfile(match)]  # noqa: PTH113 - see is_many
            if not names:
                raise FileRefused(Code.FILE, source, "no file matches")
        inputs += sorted(names)
    if not is_url(directory):
        with writing(directory):
            Path(directory).mkdir(parents=True, exist_ok=True)
    pairs: dict[str, str] = {}
    for name in inputs:
        if name == STANDARD:
            message = "standard input has no name for a file in a directory"
            raise FileRefused(Code.FILE, name, message)
        target = f"{directory.rstrip('/')}/{name.rstrip('/').rpartition('/')[2]}"
        if target in pairs:
            message = f"{pairs[target]} and {name} would both go here"
            raise FileRefused(Code.FILE, target, message)
        pairs[target] = name
    return [(source, target) for target, source in pairs.items()]


def _is_pattern(name: str) -> bool:
    is_wild = any(mark in name for mark in "*?[")
    return is_wild and (is_url(name) or not os.path.exists(name))  # noqa: PTH110 - see is_many


class Target:
    """The names of an output, and of the files beside it until it is complete."""

    def __init__(self, name: str, state: str) -> None:
        self.name = name
        self.is_stream = name == STANDARD
        self.is_url = is_url(name)
        base = Path(name)
        if self.is_url:
            digest = hashlib.sha256(name.encode()).hexdigest()[:16]
            base = Path(state).expanduser() / digest / (name.rpartition("/")[2] or "output")
        self.part = base.with_name(base.name + ".part")
        self.final = base.with_name(base.name + ".final") if self.is_url else base
        self.journal = base.with_name(base.name + ".journal")
        self.errors_name = f"{name}.errors.csv"
        self.errors = base.with_name(base.name + ".errors.csv")
        self.errors_part = base.with_name(base.name + ".errors.csv.part")

    def check(self, source: str) -> None:
        """Check that the output can be written, and is not the input.

        Raises:
            FileRefused: it cannot, or it is.
        """
        if self.is_stream:
            return
        same = FileRefused(Code.FILE, self.name, "input and output are the same file")
        if self.is_url:
            if self.name == source:
                raise same
            with writing(self.name):
                file_system(self.name)
                self.part.parent.mkdir(parents=True, exist_ok=True)
            return
        final, folder = self.final, self.final.parent
        with writing(self.name):
            if not folder.is_dir():
                raise FileRefused(Code.FILE, self.name, f"there is no directory {folder}")
            if final.is_dir():
                raise FileRefused(Code.FILE, self.name, "it is a directory; name a file in it")
            if source != STANDARD and not is_url(source) and Path(source).exists():
                beside = (final, self.part, self.journal, self.errors, self.errors_part)
                if any(path.exists() and path.samefile(source) for path in beside):
                    raise same
            if final.exists() and not os.access(final, os.W_OK):
                raise FileRefused(Code.FILE, self.name, "it is there already and write-protected")
            if not os.access(folder, os.W_OK | os.X_OK):
                message = f"it cannot be written: no permission to write into {folder}"
                raise FileRefused(Code.FILE, self.name, message)

    def is_unfinished(self) -> bool:
        """Whether a run began and did not end."""
        return not self.is_stream and self.journal.exists() and self.part.exists()

    def discard(self) -> None:
        """Remove an unfinished run but for its journal, which is its lock."""
        self.part.unlink(missing_ok=True)
        self.errors_part.unlink(missing_ok=True)

    def publish(self, finish: Callable[[Path, Path], bool]) -> None:
        """Give the output, and the error report if there is any, their names.

        `finish` may make the final file of the part, and returns whether it did.
        """
        whole = self.part.with_name(self.part.name + ".whole")
        done = whole if finish(self.part, whole) else self.part
        _sync(done)
        has_errors = self.errors_part.exists()
        # Without errors, the report of an earlier run is removed: it would be taken for the report of this run.
        if self.is_url:
            fs, path = file_system(self.name)
            if has_errors:
                fs.put_file(str(self.errors_part), f"{path}.errors.csv")
            elif fs.exists(f"{path}.errors.csv"):
                fs.rm_file(f"{path}.errors.csv")
            fs.put_file(str(done), path)
        else:
            if has_errors:
                _sync(self.errors_part)
                self.errors_part.replace(self.errors)
            else:
                self.errors.unlink(missing_ok=True)
            done.replace(self.final)
            # Not every file system can sync a directory; the rename itself is done.
            with contextlib.suppress(OSError):
                _sync(self.final.parent)
        for left in (self.part, whole, self.errors_part):
            left.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove the directory of an output to a URL, if it is empty."""
        if self.is_url:
            with contextlib.suppress(OSError):
                self.part.parent.rmdir()


class Output:
    """A file that only grows, compressed block by block where the target's name asks for it."""

    def __init__(
        self,
        file: Any,
        compress: Callable[[bytes], bytes] | None = None,
        *,
        plain: int = 0,
        flushed: tuple[int, int] = (0, 0),
        block_bytes: int = DEFAULT_SIZES.block_bytes,
    ) -> None:
        """Continue a file that holds `flushed[1]` bytes for the first `flushed[0]` of the output. The
        next bytes that are written begin at `plain`; those that the file holds already are left out."""
        self._file = file
        self._compress = compress
        self._block_bytes = block_bytes
        self._skip = flushed[0] - plain
        self._block = bytearray()
        self.plain = plain
        self.flushed = flushed

    def write(self, data: bytes | memoryview) -> None:
        """Take more output; compressed, it reaches the file when a block is full."""
        self.plain += len(data)
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = memoryview(data)[skipped:]
        if self._compress is None:
            write_all(self._file, data)
            self.flushed = (self.flushed[0] + len(data), self.flushed[1] + len(data))
            return
        self._block += data
        while len(self._block) >= self._block_bytes:
            self._write_block(self._block_bytes)

    def finish(self) -> None:
        """Write the last block, which is not full."""
        if self._compress is not None and (self._block or self.flushed[1] == 0):
            self._write_block(len(self._block))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write_block(self, size: int) -> None:
        assert self._compress is not None  # noqa: S101 - only called with it
        stored = self._compress(bytes(self._block[:size]))
        del self._block[:size]
        write_all(self._file, stored)
        self.flushed = (self.flushed[0] + size, self.flushed[1] + len(stored))


class PartFile:
    """A file that only grows, and is brought to the disk meanwhile, so that its end is not a long wait."""

    def __init__(self, path: Path, length: int, sync_bytes: int = DEFAULT_SIZES.sync_bytes) -> None:
        """Continue after the first `length` bytes."""
        self._file = path.open("ab", buffering=0)
        self._file.truncate(length)
        self._sync_bytes = sync_bytes
        self._synced = self._requested = length
        """How much of it is on the disk, and how much will be after the sync that is running."""
        self._error: OSError | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scoreline-sync")
        self._syncing: Future[None] | None = None

    def write(self, data: memoryview) -> int:
        """Append some of the bytes; returns how many.

        Raises:
            OSError: these cannot be written, or earlier ones did not reach the disk.
        """
        self._check()
        count = self._file.write(data)
        length = self._file.tell()
        is_busy = self._syncing is not None and not self._syncing.done()
        if length - self._requested >= self._sync_bytes and not is_busy:
            self._requested = length
            self._syncing = self._thread.submit(self._sync, length)
        return count

    def close(self) -> None:
        """Close the file. All after the first bytes that did not reach the disk is cut off, so that a
        run continues before them.

        Raises:
            OSError: there were such bytes.
        """
        try:
            self._thread.shutdown()
        finally:
            if not self._file.closed:
                if self._error is not None:
                    self._file.truncate(self._synced)
                self._file.close()
        self._check()

    def _sync(self, length: int) -> None:
        try:
            os.fsync(self._file.fileno())
            self._synced = length
        except OSError as error:
            # The system reports it only once.
            self._error = error

    def _check(self) -> None:
        if self._error is not None:
            raise self._error


class ErrorReport:
    """`OUT.errors.csv`: a line for each rejected row. The file is there from the first rejected row on."""

    def __init__(self, path: Path | None, length: int = 0) -> None:
        """Continue after the first `length` bytes of a report; without a path there is none."""
        self.length = length
        self._path = path
        if path is not None and length == 0:
            path.unlink(missing_ok=True)

    def write(self, problems: Iterable[Mapping[str, Any]]) -> None:
        """Add rejected rows."""
        text = io.StringIO()
        lines = csv.DictWriter(
            text, REPORT_COLUMNS, restval="", extrasaction="ignore", lineterminator="\n"
        )
        if self.length == 0:
            lines.writeheader()
        before = text.tell()
        lines.writerows(problems)
        if self._path is None or text.tell() == before:
            return
        data = text.getvalue().encode("utf-8", "backslashreplace")
        with self._path.open("ab", buffering=0) as file:
            file.truncate(self.length)
            write_all(file, data)
        self.length += len(data)


def standard_output() -> Any:
    """Standard output, without a buffer."""
    sys.stdout.flush()
    return os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)


def compressor(kind: str | None) -> Callable[[bytes], bytes] | None:
    """A function that makes bytes a complete member of a compressed file, always the same."""
    if kind is None:
        return None
    if kind == "gzip":
        return lambda data: gzip.compress(data, compresslevel=6, mtime=0)
    compress: Callable[[bytes], bytes] = zstd().compress
    return compress


def write_all(file: Any, data: bytes | memoryview) -> None:
    """Write bytes to a file without a buffer, which may take only some at a time."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


@contextmanager
def writing(name: str) -> Iterator[None]:
    """Make an error of the operating system one of Scoreline's.

    Raises:
        FileRefused: E_DISK_FULL, or E_FILE with the system's reason.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            message = "there is no room left on the disk; what was scored is kept"
            raise FileRefused(Code.DISK_FULL, name, message) from error
        if isinstance(error, BrokenPipeError):
            message = "broken pipe: the reader of the output has closed it"
            raise FileRefused(Code.FILE, name, message) from error
        reason = error.strerror or str(error)
        raise FileRefused(Code.FILE, name, f"it cannot be written: {reason}") from error


def _sync(path: Path) -> None:
    """Bring a file, or the names in a directory, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
