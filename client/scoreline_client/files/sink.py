"""Where answers are written: beside the output's name, under which they appear when all are there.

`OUT.part` and `OUT.errors.csv.part` grow, and `OUT.journal` says how far they are. At the end they
are brought to the disk and take their names. What goes to a URL grows in a directory of this machine
and is sent when it is complete; what goes to standard output leaves at once and cannot be resumed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scoreline_client.codes import Code
from scoreline_client.errors import FileRefused
from scoreline_client.files.source import STANDARD, file_system, is_url

BLOCK_BYTES = 1 << 20
"""Compressed output is cut into blocks of so many plain bytes, each readable without the others, so
that it is the same however a run was interrupted."""
SYNC_BYTES = 1 << 24
"""After so many more bytes an output is brought to the disk again."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Target:
    """The names of an output and of what stands beside it until it is complete."""

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
        """See that the output can be written, and is not the input.

        Raises:
            FileRefused: it is, or it cannot.
        """
        if self.is_stream:
            return
        with writing(self.name):
            if self.is_url:
                file_system(self.name)
                self.part.parent.mkdir(parents=True, exist_ok=True)
                if self.name == source:
                    raise FileRefused(Code.FILE, self.name, "input and output are the same file")
                return
            self._check_local(source)

    def _check_local(self, source: str) -> None:
        final, folder = self.final, self.final.parent
        if not folder.is_dir():
            raise FileRefused(Code.FILE, self.name, f"there is no directory {folder}")
        if final.is_dir():
            raise FileRefused(Code.FILE, self.name, "it is a directory; name a file in it")
        beside = (final, self.part, self.journal, self.errors, self.errors_part)
        if source != STANDARD and not is_url(source) and Path(source).exists():
            for one in beside:
                if one.exists() and one.samefile(source):
                    raise FileRefused(Code.FILE, self.name, "input and output are the same file")
        if final.exists() and not os.access(final, os.W_OK):
            raise FileRefused(Code.FILE, self.name, "it is there already and write-protected")
        if not os.access(folder, os.W_OK | os.X_OK):
            message = f"it cannot be written: no permission to write into {folder}"
            raise FileRefused(Code.FILE, self.name, message)

    def is_unfinished(self) -> bool:
        """Whether a run was begun and not brought to its end."""
        return not self.is_stream and self.journal.exists() and self.part.exists()

    def discard(self) -> None:
        """Leave nothing of an unfinished run but its journal, which is its lock."""
        self.part.unlink(missing_ok=True)
        self.errors_part.unlink(missing_ok=True)

    def publish(self, complete: Callable[[Path, Path], bool]) -> None:
        """Give the output, and the error report if there is one, their names.

        `complete` may make the final file out of the part, and says whether it did.
        """
        whole = self.part.with_name(self.part.name + ".whole")
        done = whole if complete(self.part, whole) else self.part
        _sync(done)
        if self.is_url:
            self._upload(done)
        else:
            self._publish_errors()
            done.replace(self.final)
            _sync_directory(self.final.parent)
        for one in (self.part, whole, self.errors_part):
            one.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Leave no empty directory behind."""
        if self.is_url:
            with contextlib.suppress(OSError):
                self.part.parent.rmdir()

    def _publish_errors(self) -> None:
        if self.errors_part.exists():
            _sync(self.errors_part)
            self.errors_part.replace(self.errors)
        else:
            # A report of an earlier run would be taken for one of this.
            self.errors.unlink(missing_ok=True)

    def _upload(self, done: Path) -> None:
        fs, path = file_system(self.name)
        if self.errors_part.exists():
            fs.put_file(str(self.errors_part), f"{path}.errors.csv")
        elif fs.exists(f"{path}.errors.csv"):
            fs.rm_file(f"{path}.errors.csv")
        fs.put_file(str(done), path)


class Output:
    """A file that only grows, compressed block by block if it is to be."""

    def __init__(
        self,
        file: Any,
        compress: Callable[[bytes], bytes] | None = None,
        *,
        plain: int = 0,
        flushed: tuple[int, int] = (0, 0),
    ) -> None:
        """Go on in a file that holds `flushed[1]` bytes for the first `flushed[0]` of the output;
        the next bytes that are written begin at `plain`, and those that are there already are
        left out."""
        self._file = file
        self._compress = compress
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
            self._write_all(data)
            self.flushed = (self.flushed[0] + len(data), self.flushed[1] + len(data))
            return
        self._block += data
        while len(self._block) >= BLOCK_BYTES:
            self._write_block(BLOCK_BYTES)

    def finish(self) -> None:
        """Write what waits for its block to be full."""
        if self._compress is not None and (self._block or self.flushed[1] == 0):
            self._write_block(len(self._block))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write_block(self, size: int) -> None:
        assert self._compress is not None  # noqa: S101 - only called with it
        stored = self._compress(bytes(self._block[:size]))
        del self._block[:size]
        self._write_all(stored)
        self.flushed = (self.flushed[0] + size, self.flushed[1] + len(stored))

    def _write_all(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]


class PartFile:
    """A file that only grows, and is brought to the disk while it does: at its end little is left to
    wait for."""

    def __init__(self, path: Path, length: int) -> None:
        """Go on behind the first `length` bytes."""
        self._file = path.open("ab", buffering=0)
        self._file.truncate(length)
        self._synced = self._asked = length
        """How much of it is on the disk; and how long it was when it was last to be brought there."""
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
        if length - self._asked >= SYNC_BYTES and not is_busy:
            self._asked = length
            self._syncing = self._thread.submit(self._sync, length)
        return count

    def close(self) -> None:
        """Close the file. What comes behind bytes that did not reach the disk is cut off first, so
        that a run goes on before it.

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
            # The system says so only once.
            self._error = error

    def _check(self) -> None:
        if self._error is not None:
            raise self._error


def standard_output() -> Any:
    """Standard output, without a buffer."""
    sys.stdout.flush()
    return os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)


@contextmanager
def writing(name: str) -> Iterator[None]:
    """Turn what an operating system says when it cannot write into our own error.

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
            message = "nobody reads the output any more"
            raise FileRefused(Code.FILE, name, message) from error
        reason = error.strerror or str(error)
        raise FileRefused(Code.FILE, name, f"it cannot be written: {reason}") from error


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    # Not every file system can do this for a directory; the rename itself is done.
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
