"""Opens what is to be scored: a file, a URL, or standard input; compressed or not.

A `Source` gives plain bytes and knows how many stored bytes they took. It also knows what it looked
like when it was opened, so that a run which is resumed, and one that comes to its end, can tell
whether they still read the same file.
"""

from __future__ import annotations

import codecs
import hashlib
import os
import select
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from scoreline_client.codes import Code
from scoreline_client.errors import FileRefused, MissingDependency, ScorelineError
from scoreline_client.files.compression import Decompressed, check_readable, compression_of

STANDARD = "-"
END_BYTES = 1 << 16
SKIP_BYTES = 1 << 20
LOOK_EVERY_S = 0.1
_FACTS = (
    "ETag",
    "etag",
    "LastModified",
    "last_modified",
    "mtime",
    "updated",
    "created",
    "mtime_ns",
)
"""What file systems tell of a file that changes when the file does."""


def is_url(name: str) -> bool:
    """Whether this names something for fsspec."""
    return "://" in name


def file_system(name: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it.

    Raises:
        MissingDependency: fsspec, or what it needs for this kind of URL, is not installed.
        FileRefused: nobody knows such URLs.
    """
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise MissingDependency("a URL", "fsspec", "files") from error
    try:
        fs, path = url_to_fs(name)
    except ImportError as error:
        package = error.name or str(error)
        raise MissingDependency(name.partition("://")[0] + "://", package, "files") from error
    except ValueError as error:
        raise FileRefused(Code.FILE, name, str(error)) from error
    return fs, path


class Source:
    """An input as plain bytes."""

    def __init__(self, name: str, raw: Raw) -> None:
        self.name = name
        self.raw = raw
        self.start = raw.peek(8)
        """The first stored bytes."""
        check_readable(name, self.start)
        self.compression = compression_of(self.start)
        self._plain: Any = Decompressed(name, self.compression, raw) if self.compression else raw
        self._back = b""

    @property
    def size(self) -> int | None:
        """Stored bytes in all; None if nobody knows."""
        return self.raw.size

    @property
    def position(self) -> int:
        """Stored bytes read so far."""
        return self.raw.position

    def decode(self, encoding: str) -> None:
        """From here on, give the text in UTF-8."""
        self._plain = _Transcoded(self.name, self._plain, encoding)

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, fewer only at the end."""
        parts: list[bytes] = []
        if self._back:
            parts = [self._back[:size]]
            self._back = self._back[size:]
            size -= len(parts[0])
        try:
            while size > 0 and (part := self._plain.read(size)):
                parts.append(part)
                size -= len(part)
        except OSError as error:
            raise unreadable(self.name, error) from error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def blocks(
        self, offset: int, block_bytes: Callable[[], int], *, origin: int = 0
    ) -> Iterator[bytes]:
        """All that follows, in blocks that end at the same places wherever reading begins.

        `offset` is what would be read next. Blocks end at multiples of their size behind `origin`. One
        that begins between two of them, where the rows of a block before ended, goes to the second: the
        first is where that block had ended.
        """
        while block := self.read((size := block_bytes()) + (origin - offset) % size):
            yield block
            offset += len(block)

    def unread(self, data: bytes) -> None:
        """Put bytes back, to be read once more."""
        self._back = data + self._back

    @property
    def is_stored_plain(self) -> bool:
        """Whether the stored bytes are the plain ones."""
        return self._plain is self.raw

    def go_to(self, offset: int, *, at: int) -> None:
        """Go on at a place among the plain bytes; `at` says which one would be read next."""
        if offset == at:
            return
        if self.is_stored_plain and self.raw.seek(offset):
            self._back = b""
            return
        missing = offset - at
        while missing:
            skipped = self.read(min(missing, SKIP_BYTES))
            if not skipped:
                raise FileRefused(Code.INPUT_CHANGED, self.name, "the input is shorter than it was")
            missing -= len(skipped)

    def check_unchanged(self) -> None:
        """See that the file is still what was opened.

        Raises:
            FileRefused: it grew, was written to or replaced while it was read.
        """
        if self.raw.has_changed():
            message = "the input was changed or replaced while it was read"
            raise FileRefused(Code.INPUT_CHANGED, self.name, message)

    def close(self) -> None:
        """Close the file."""
        self.raw.close()


class Raw:
    """Stored bytes, counted."""

    def __init__(self, file: IO[bytes], size: int | None, facts: dict[str, Any] | None) -> None:
        self.file = file
        self.size = size
        self.facts = facts
        """What tells this input from another one, or from itself after a change; None: nothing."""
        self.position = 0
        self._back = b""

    def peek(self, size: int) -> bytes:
        """The next bytes, which stay."""
        while len(self._back) < size and (part := self.file.read(size - len(self._back))):
            self._back += part
        return self._back[:size]

    def read(self, size: int) -> bytes:
        """Up to `size` bytes."""
        if self._back:
            data, self._back = self._back[:size], self._back[size:]
        else:
            data = self.file.read(size)
        self.position += len(data)
        return data

    def seek(self, offset: int) -> bool:
        """Go to a place, if the file can do that."""
        if self.facts is None or not self.file.seekable():
            return False
        self.file.seek(offset)
        self.position, self._back = offset, b""
        return True

    def has_changed(self) -> bool:
        """Whether the file is not what it was when it was opened."""
        return False

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class _StandardInput(Raw):
    def __init__(self, file: Any) -> None:
        super().__init__(_Interruptible(file), None, None)  # type: ignore[arg-type]


class _Interruptible:
    """A pipe or terminal; who waits for it in a thread stops waiting when it is closed."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._stopped = False
        try:
            self._number = int(file.fileno())
        except (AttributeError, OSError, ValueError):
            self._number = -1  # not the operating system's; it does not block

    def read(self, size: int) -> bytes:
        if self._number < 0:
            return bytes(self._file.read(size))
        while not self._stopped:
            if select.select([self._number], [], [], LOOK_EVERY_S)[0]:
                return os.read(self._number, size)
        return b""

    def close(self) -> None:
        """Standard input itself is not ours to close."""
        self._stopped = True


class _Local(Raw):
    def __init__(self, path: Path, file: IO[bytes]) -> None:
        status = os.fstat(file.fileno())
        ends = hashlib.sha256(file.read(END_BYTES))
        file.seek(max(0, status.st_size - END_BYTES))
        ends.update(file.read(END_BYTES))
        file.seek(0)
        size = status.st_size if file.seekable() else None
        facts = {"size": size, "mtime_ns": status.st_mtime_ns, "ends": ends.hexdigest()}
        super().__init__(file, size, facts)
        self._path = path
        self._status = status

    def has_changed(self) -> bool:
        try:
            now = [os.fstat(self.file.fileno()), self._path.stat()]
        except OSError:
            return True
        return any(_changing(one) != _changing(self._status) for one in now)


class _Remote(Raw):
    def __init__(self, fs: Any, path: str) -> None:
        facts = _remote_facts(fs, path)
        super().__init__(fs.open(path, "rb"), facts["size"], facts)
        self._fs = fs
        self._path = path

    def has_changed(self) -> bool:
        self._fs.invalidate_cache()
        try:
            return _remote_facts(self._fs, self._path) != self.facts
        except OSError:
            return True


class _Transcoded:
    """Text of any encoding as UTF-8."""

    def __init__(self, path: str, plain: Any, encoding: str) -> None:
        self._path = path
        self._plain = plain
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._read = 0

    def read(self, size: int) -> bytes:
        while True:
            data = self._plain.read(size)
            try:
                text = self._decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                message = (
                    f"the text is not {self._encoding}: {error.reason} near byte {self._read:,}"
                )
                raise FileRefused(Code.ENCODING, self._path, message) from error
            self._read += len(data)
            if text or not data:
                return text.encode()


def open_source(name: str) -> Source:
    """Open a path, a URL, or `-` for standard input.

    Raises:
        FileRefused: it cannot be read, or is of a kind that is not read here.
    """
    try:
        raw = _open(name)
        try:
            return Source(name, raw)
        except BaseException:
            raw.close()
            raise
    except OSError as error:
        raise unreadable(name, error) from error


def unreadable(name: str, error: OSError) -> FileRefused:
    """The error of an input that the operating system, or a store, does not give."""
    reason = error.strerror or str(error)
    return FileRefused(Code.FILE, name, f"it cannot be read: {reason}")


def facts_of(name: str) -> dict[str, Any] | None:
    """What tells an input from any other; None if nothing does, or it cannot be read."""
    try:
        # Not standard input nor a named pipe: what is read of those is gone.
        if not is_url(name) and not Path(name).is_file():
            return None
        raw = _open(name)
    except (OSError, ScorelineError):
        return None
    try:
        return raw.facts
    finally:
        raw.close()


def _open(name: str) -> Raw:
    if name == STANDARD:
        return _StandardInput(sys.stdin.buffer)
    if is_url(name):
        return _Remote(*file_system(name))
    path = Path(name)
    file = path.open("rb")
    if not file.seekable():
        return Raw(file, None, None)  # a named pipe
    try:
        return _Local(path, file)
    except OSError:
        file.close()
        raise


def _changing(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _remote_facts(fs: Any, path: str) -> dict[str, Any]:
    info = fs.info(path)
    facts = {name: str(info[name]) for name in _FACTS if info.get(name) is not None}
    return {"size": info.get("size"), **facts}
