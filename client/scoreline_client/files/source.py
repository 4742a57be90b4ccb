"""Opens the input: a path, a URL, or `-` for standard input; compressed or not, in any encoding.

A `Source` gives plain bytes and knows how many stored bytes they took. It remembers facts about the file,
by which a run that is resumed, and a run that ends, can tell whether the file has changed.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import os
import select
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from scoreline_client.codes import Code
from scoreline_client.errors import FileRefused, MissingDependency, ScorelineError
from scoreline_client.files.reader import DEFAULT_SIZES, FileSizes

STANDARD = "-"
END_BYTES = 1 << 16
SKIP_BYTES = 1 << 20
CHECK_STOP_EVERY_S = 0.1
_COMPRESSIONS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_SUFFIXES = {".gz": "gzip", ".zst": "zstd"}
_FOREIGN = {
    b"PK\x03\x04": "a zip archive",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ": "compressed with xz",
    b"\xd0\xcf\x11\xe0": "a legacy Office file (.xls, .doc)",
}
_SPREADSHEETS = (
    *(b"[Content_Types].xml", b"_rels/", b"xl/", b"docProps/"),
    *(b"vnd.oasis.opendocument.spreadsheet", b"\xd0\xcf\x11\xe0"),
)
"""How files of spreadsheets begin: the first names in their archives, and an older format."""
_NAME_IN_ZIP = 128
_TABLES = (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".parquet", ".pq")
_FACTS = (
    *("ETag", "etag", "LastModified", "last_modified"),
    *("mtime", "updated", "created", "mtime_ns"),
)
"""Facts that file systems have of a file and that change when the file does."""


class Source:
    """An input as plain bytes."""

    def __init__(
        self,
        name: str,
        file: io.BufferedReader,
        *,
        size: int | None = None,
        facts: dict[str, Any] | None = None,
        opened: object = None,
        state: Callable[[], object] = lambda: None,
        sizes: FileSizes = DEFAULT_SIZES,
    ) -> None:
        """Recognise a file's compression by its first bytes.

        `state()` equals `opened` as long as the file has not been changed or replaced.

        Raises:
            FileRefused: it is an archive, or has a compression that is not read here.
        """
        self.name = name
        self.file = file
        """The file as it is stored."""
        self.size = size
        """Stored bytes in all; None if that is unknown."""
        self.facts = facts
        """Facts that tell the file from any other, and from itself after a change. None: there are none,
        and it cannot be read twice."""
        self._opened, self._state = opened, state
        self.start = file.peek(8)[:8]
        """The first stored bytes."""
        for magic, kind in _FOREIGN.items():
            if self.start.startswith(magic):
                message = f"the file is {kind}; only gzip and zstd are read: unpack it first"
                beginning = bytes(file.peek(_NAME_IN_ZIP)[:_NAME_IN_ZIP])
                if any(mark in beginning for mark in _SPREADSHEETS):
                    message = (
                        "this is a spreadsheet's own file (Excel, LibreOffice): save the sheet as CSV UTF-8, or read "
                        "it with pandas and use predict_frame"
                    )
                raise FileRefused(Code.FILE, name, message)
        matching = (kind for magic, kind in _COMPRESSIONS.items() if self.start.startswith(magic))
        self.compression = next(matching, None)
        self._plain: Any = file
        self._damage: tuple[type[Exception], ...] = ()
        """The errors of unpacking where the compressed data are damaged."""
        if self.compression == "gzip":
            self._plain = gzip.GzipFile(fileobj=file, mode="rb")
            self._damage = (EOFError, OSError, zlib.error)
        elif self.compression == "zstd":
            # zstd's own error is derived from Exception alone.
            self._plain = zstd().ZstdFile(file, "rb")
            self._damage = (EOFError, OSError, zstd().ZstdError)
        self._sizes = sizes
        self._unpacked = 0
        self._encoding = "utf-8"
        self._decoder: codecs.IncrementalDecoder | None = None
        self._unread = b""

    @property
    def position(self) -> int:
        """Stored bytes read so far."""
        return self.file.tell()

    @property
    def is_stored_plain(self) -> bool:
        """Whether the stored bytes are the plain ones."""
        return self.compression is None and self._decoder is None

    def decode(self, encoding: str) -> None:
        """From here on, read text of this encoding as UTF-8."""
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()

    def read(self, size: int) -> bytes:
        """Up to `size` plain bytes, fewer only at the end.

        Raises:
            FileRefused: the file cannot be read, is cut short or damaged, expands without measure, or
                is not in its encoding.
        """
        pieces: list[bytes] = []
        if self._unread:
            pieces = [self._unread[:size]]
            self._unread = self._unread[size:]
            size -= len(pieces[0])
        try:
            while size > 0:
                unpacked = self._unpacked
                try:
                    piece: bytes = self._plain.read(size)
                except self._damage as error:
                    reason = f"is damaged ({error})"
                    if isinstance(error, EOFError):
                        reason = "ends in the middle: it was not copied or written whole"
                    message = f"the {self.compression} data {reason}; {unpacked:,} bytes could be unpacked"
                    raise FileRefused(Code.FILE, self.name, message) from error
                is_end = not piece
                self._unpacked += len(piece)
                most = self._sizes.most_expansion
                if self.compression and self._unpacked > max(
                    self._sizes.unwatched_bytes, most * self.position
                ):
                    message = (
                        f"{self.position:,} compressed bytes became {self._unpacked:,} so far: more "
                        f"than {most} times as many. If that is intended, unpack it first"
                    )
                    raise FileRefused(Code.TOO_LARGE, self.name, message)  # noqa: TRY301
                if self._decoder is not None:
                    piece = self._decoder.decode(piece, final=is_end).encode()
                if piece:
                    pieces.append(piece)
                    size -= len(piece)
                if is_end:
                    break
        # Not all that a codec raises is a UnicodeDecodeError: UTF-16 without a byte order mark is not.
        except UnicodeError as error:
            reason = error.reason if isinstance(error, UnicodeDecodeError) else str(error)
            message = f"the text is not {self._encoding}: {reason} near byte {unpacked:,}"
            raise FileRefused(Code.ENCODING, self.name, message) from error
        # What fsspec's libraries raise becomes an error of Scoreline; all else is raised as it is.
        except Exception as error:  # noqa: BLE001
            raise_unreadable(self.name, error)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def unread(self, data: bytes) -> None:
        """Put bytes back, to be read once more."""
        self._unread = data + self._unread

    def blocks(
        self, offset: int, block_bytes: Callable[[], int], *, origin: int = 0
    ) -> Iterator[bytes]:
        """All that follows, in blocks that end at the same offsets wherever reading begins.

        `offset` is that of the next byte. Blocks end at multiples of their size after `origin`. A block
        that begins between two of those, where the rows of a block before ended, extends to the second:
        the first is where that block had ended.
        """
        while block := self.read((size := block_bytes()) + (origin - offset) % size):
            yield block
            offset += len(block)

    def go_to(self, offset: int, *, at: int) -> None:
        """Continue at an offset among the plain bytes; `at` is that of the next byte now.

        Raises:
            FileRefused: the input ends before it.
        """
        if (
            offset != at
            and self.is_stored_plain
            and self.facts is not None
            and self.file.seekable()
        ):
            self.file.seek(offset)
            self._unread = b""
            return
        missing = offset - at
        while missing:
            skipped = self.read(min(missing, SKIP_BYTES))
            if not skipped:
                raise FileRefused(Code.INPUT_CHANGED, self.name, "the input is shorter than it was")
            missing -= len(skipped)

    def check_unchanged(self) -> None:
        """Check that the file is still the file that was opened.

        Raises:
            FileRefused: it was written to, replaced or removed meanwhile.
        """
        try:
            is_same = self._state() == self._opened
        except OSError:
            is_same = False
        if not is_same:
            message = "the input was changed or replaced while it was read"
            raise FileRefused(Code.INPUT_CHANGED, self.name, message)

    def close(self) -> None:
        """Close the file; a thread that waits for standard input stops waiting."""
        if isinstance(self.file.raw, _Pipe):
            # First: the buffer around it is locked while a thread reads.
            self.file.raw.is_stopped = True
        self.file.close()


class _Pipe(io.RawIOBase):
    """Standard input or a named pipe; a thread that waits for it stops waiting when it is stopped."""

    def __init__(self, file: Any) -> None:
        super().__init__()
        self.is_stopped = False
        self._file = file
        self._count = 0
        try:
            self._descriptor = int(file.fileno())
        except (AttributeError, OSError, ValueError):
            self._descriptor = -1  # not a file of the operating system; it does not block

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._count

    def close(self) -> None:
        """Close a named pipe; standard input is not Scoreline's to close."""
        if self._file is not sys.stdin.buffer:
            self._file.close()
        super().close()

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer, unless the input ends before."""
        view, size = memoryview(buffer), 0
        while size < len(view) and not self.is_stopped:
            if self._descriptor < 0:
                data = self._file.read(len(view) - size)
            elif select.select([self._descriptor], [], [], CHECK_STOP_EVERY_S)[0]:
                data = os.read(self._descriptor, len(view) - size)
            else:
                continue
            if not data:
                break
            view[size : size + len(data)] = data
            size += len(data)
        self._count += size
        return size


# Opening


def check_name(name: str) -> None:
    """Check that a file can have this name at all.

    Raises:
        FileRefused: it is empty, or has characters that no name of a file has.
    """
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        is_possible = False
    else:
        is_possible = bool(name) and "\0" not in name
    if not is_possible:
        raise FileRefused(Code.FILE, repr(name), "no file has such a name")


def is_url(name: str) -> bool:
    """Whether this names a file for fsspec."""
    return "://" in name


def file_system(name: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it.

    Raises:
        MissingDependency: fsspec, or the package that it needs for this kind of URL, is not installed.
        FileRefused: fsspec does not know this kind of URL.
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


def open_source(name: str, sizes: FileSizes = DEFAULT_SIZES) -> Source:
    """Open a path, a URL, or `-` for standard input.

    Raises:
        FileRefused: it cannot be read, or is of a kind that is not read here.
    """
    check_name(name)
    file: io.BufferedReader | None = None
    try:
        if name == STANDARD:
            return Source(name, io.BufferedReader(_Pipe(sys.stdin.buffer)), sizes=sizes)
        if is_url(name):
            fs, path = file_system(name)

            def state() -> Any:
                fs.invalidate_cache()
                info = fs.info(path)
                details = {key: str(info[key]) for key in _FACTS if info.get(key) is not None}
                return {"size": info.get("size"), **details}

            facts = opened = state()
            file = io.BufferedReader(fs.open(path, "rb"))
        else:
            file = local = Path(name).open("rb")  # noqa: SIM115 - the source closes it
            if not local.seekable():  # a named pipe
                return Source(name, io.BufferedReader(_Pipe(local)), sizes=sizes)

            def state() -> Any:
                statuses = (os.fstat(local.fileno()), Path(name).stat())
                return [
                    (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns) for info in statuses
                ]

            opened, info = state(), os.fstat(local.fileno())
            ends = hashlib.sha256(local.read(END_BYTES))
            local.seek(max(0, info.st_size - END_BYTES))
            ends.update(local.read(END_BYTES))
            local.seek(0)
            facts = {"size": info.st_size, "mtime_ns": info.st_mtime_ns, "ends": ends.hexdigest()}
        return Source(
            name, file, size=facts["size"], facts=facts, opened=opened, state=state, sizes=sizes
        )
    except BaseException as error:  # noqa: BLE001 - see raise_unreadable
        if file is not None:
            file.close()
        raise_unreadable(name, error)


def is_read_once(name: str) -> bool:
    """Whether an input is gone once it is read: standard input, a named pipe."""
    is_file = is_url(name) or os.path.isfile(name)  # noqa: PTH113 - Path.is_file may raise
    return name == STANDARD or (not is_file and os.path.exists(name) and not os.path.isdir(name))  # noqa: PTH110, PTH112


def facts_of(name: str) -> dict[str, Any] | None:
    """The facts that tell an input from any other; None if nothing does, or it cannot be read."""
    # Not standard input nor a named pipe: bytes that are read from those are gone.
    if not is_url(name) and not os.path.isfile(name):  # noqa: PTH113 - Path.is_file may raise
        return None
    try:
        source = open_source(name)
    except ScorelineError:
        return None
    source.close()
    return source.facts


def raise_unreadable(name: str, error: BaseException) -> NoReturn:
    """Raise FileRefused for what the system, or a library of fsspec, says; anything else is raised as it is."""
    if isinstance(error, OSError) and not is_url(name):
        raise unreadable(name, error) from error
    if is_url(name) and isinstance(error, Exception) and not isinstance(error, ScorelineError):
        # Without its cause, which may quote the URL with a token in it.
        raise unreadable(name, error) from None
    raise error


def unreadable(name: str, error: Exception) -> FileRefused:
    """The error for an input that the operating system, or a store, refuses to give."""
    message = (
        f"it cannot be read: {getattr(error, 'strerror', None) or error or type(error).__name__}"
    )
    if isinstance(error, IsADirectoryError):
        message = "it is a directory; name a file in it (`scoreline score` and `check` take a directory, too)"
    return FileRefused(Code.FILE, name, message)


# Compression


def is_table(name: str) -> bool:
    """Whether a file of a directory is a table by its name, and none that a run of Scoreline leaves beside an output."""
    base = compression_by_name(name)[1].rpartition("/")[2].lower()
    is_report = base.endswith(".errors.csv")
    return base.endswith(_TABLES) and not base.startswith(".") and not is_report


def compression_by_name(name: str) -> tuple[str | None, str]:
    """The compression that a file's name asks for, and the name without its ending."""
    for suffix, kind in _SUFFIXES.items():
        if name.lower().endswith(suffix):
            return kind, name[: -len(suffix)]
    return None, name


def zstd() -> ModuleType:
    """Python's module for zstd, or the same for older Pythons.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError as error:
        raise MissingDependency("a file compressed with zstd", "backports.zstd", "files") from error
    return zstd
