"""Names and writes the output: a part file that grows, the error report, and both complete at the end.

`OUT.part` and `OUT.errors.csv.part` grow, and `OUT.journal` says how far they are; nobody but their owner can
read them. At the end output and report are brought to the disk and take their names, with mode, group and owner
of the files that had those names before. A link is followed: all of this stands beside the file that it names.
An output to a URL grows in a directory of this machine and is sent when it is complete. What is no file
(standard output, a named pipe, a device) is written at once, and cannot be resumed.
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
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scoreline_client.codes import Code
from scoreline_client.errors import FileRefused, ScorelineError
from scoreline_client.files.reader import DEFAULT_SIZES
from scoreline_client.files.source import (
    STANDARD,
    check_name,
    compression_by_name,
    file_system,
    is_table,
    is_url,
    unreadable,
    zstd,
)
from scoreline_client.protocol.csv_grammar import spreadsheet_safe
from scoreline_client.shown import shown_name

REPORT_COLUMNS = ("row", "line", "column", "value", "code", "message")
_SPREADSHEETS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
_FOREIGN = (
    *(".zip", ".bz2", ".xz", ".7z", ".rar", ".tar", ".tgz", ".lz4", ".br", ".z", ".lzma", ".zstd"),
    *(".json", ".feather", ".arrow", ".avro", ".orc", ".h5", ".hdf5", ".pkl", ".pickle"),
    *(".db", ".sqlite"),
    *(".doc", ".docx", ".pdf", ".html", ".xml", ".sas7bdat", ".dta", ".sav", ".rds", ".rdata"),
)
"""Endings of what is not written: a file with one of them would not be what its name says."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a block device",
    stat.S_IFSOCK: "a socket",
}
_MOST_LINKS = 40
_LONGEST_DESCRIPTOR = 9
"""Digits of an open file's number; the system's own have fewer."""
_ACCESS_LIST = "system.posix_acl_access"


def is_many(sources: tuple[str, ...], target: str) -> bool:
    """Whether the target must be a directory: there may be several inputs, or it is a directory already."""
    several = len(sources) > 1 or _is_pattern(sources[0]) or _is_directory(sources[0])
    return several or target.endswith("/") or (target != STANDARD and _is_directory(target))


def inputs_of(sources: Iterable[str]) -> list[str]:
    """Each input, patterns and directories expanded and sorted by name.

    A directory stands for the files in it whose names end as those of tables do, without those in its folders.

    Raises:
        FileRefused: a pattern matches nothing, or a directory has no such file.
    """
    inputs: list[str] = []
    for source in sources:
        names, is_directory = [source], _is_directory(source)
        if is_directory or _is_pattern(source):
            pattern = f"{glob.escape(source.rstrip('/'))}/*" if is_directory else source
            if is_url(source):
                fs, path = file_system(f"{source}*" if is_directory else source)
                try:
                    names = [str(fs.unstrip_protocol(match)) for match in fs.glob(path)]
                except OSError as error:
                    raise unreadable(source, error) from error
            else:
                matches = glob.iglob(pattern, recursive=True)  # noqa: PTH207 - it may be absolute
                names = [match for match in matches if os.path.isfile(match)]  # noqa: PTH113 - see _is_directory
            if is_directory:
                names = [name for name in names if is_table(name)]
            if not names:
                message = (
                    "no file of this directory is a table by its name"
                    if is_directory
                    else "no file matches"
                )
                raise FileRefused(Code.FILE, source, message)
        inputs += sorted(names)
    return inputs


def outputs_for(sources: Iterable[str], directory: str) -> list[tuple[str, str]]:
    """Each input, expanded as by `inputs_of`, and its output in a directory.

    Raises:
        FileRefused: there is no input, two outputs would have the same name, or the directory cannot be made.
    """
    if directory == STANDARD:
        message = "several inputs go into a directory, and not to standard output: name one"
        raise FileRefused(Code.FILE, directory, message)
    sources = list(sources)
    for source in sources:
        is_local = _is_directory(source) and not is_url(source)
        if is_local and os.path.realpath(source) == os.path.realpath(directory):
            message = "input and output are the same directory"
            raise FileRefused(Code.FILE, source, message)
    inputs = inputs_of(sources)
    if not is_url(directory):
        if os.path.isfile(directory):  # noqa: PTH113 - see _is_directory
            raise FileRefused(
                Code.FILE, directory, "it is a file; several inputs go into a directory"
            )
        with writing(directory, is_kept=False):
            Path(directory).mkdir(parents=True, exist_ok=True)
    pairs: dict[str, str] = {}
    for name in inputs:
        if name == STANDARD:
            message = "standard input has no name for a file in a directory"
            raise FileRefused(Code.FILE, name, message)
        last = shown_name(name).removesuffix("?…").rstrip("/").rpartition("/")[2]
        # The root of a store, `memory://`, is no directory without its slashes.
        folder = directory if directory.endswith("://") else f"{directory.rstrip('/')}/"
        target = f"{folder}{last}"
        if target in pairs:
            message = f"{pairs[target]} and {name} would both go here"
            raise FileRefused(Code.FILE, target, message)
        pairs[target] = name
    return [(source, target) for target, source in pairs.items()]


def _is_directory(name: str) -> bool:
    """Whether a name is that of a directory; in a bucket, one that ends with a slash."""
    # Not Path.is_dir: it raises where permissions are missing. Opening the file reports that later.
    return name.endswith("/") if is_url(name) else os.path.isdir(name)  # noqa: PTH112


def _is_pattern(name: str) -> bool:
    # On the web a question mark begins the options of a URL.
    text = name.partition("?")[0] if name.startswith(("http://", "https://")) else name
    is_wild = any(mark in text for mark in "*?[")
    return is_wild and (is_url(name) or not os.path.exists(name))  # noqa: PTH110 - see _is_directory


class Target:
    """The names of an output, and of the files beside it until it is complete."""

    def __init__(self, name: str, state: str) -> None:
        check_name(name)
        self.name = name
        self.descriptor = 1 if name == STANDARD else descriptor_of(name)
        """The number of the open file that is written, for `-`, `/dev/stdout` and `/dev/fd/3`."""
        self.is_url = self.descriptor is None and is_url(name)
        base = Path(name)
        if self.is_url:
            digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
            # Behind the question mark there may be a token.
            plain_name = shown_name(name).removesuffix("?…")
            base = Path(state).expanduser() / digest / (plain_name.rpartition("/")[2] or "output")
        elif self.descriptor is None and os.path.islink(name):  # noqa: PTH114 - see _is_directory
            base = Path(os.path.realpath(name))

        def beside(ending: str) -> Path:
            # Not `with_name`: a directory such as . and / has none, and is refused where it is checked.
            return base.parent / (base.name + ending)

        self.part = beside(".part")
        self.whole = beside(".part.whole")
        self.final = beside(".final") if self.is_url else base
        self.journal = beside(".journal")
        self.errors_name = f"{shown_name(name) if self.is_url else base}.errors.csv"
        self.errors = beside(".errors.csv")
        self.errors_part = beside(".errors.csv.part")
        self.kind = _kind(self.final)
        """The kind of file that is there already, as one of the system's `S_IF…`; None: there is none."""

    @property
    def is_stream(self) -> bool:
        """Whether it is written at once: it has no part, no journal and no error report."""
        return self.descriptor is not None or self.kind in (stat.S_IFIFO, stat.S_IFCHR)

    def check(self, source: str) -> None:
        """Check that the output can be written, and is not the input.

        Raises:
            FileRefused: it cannot, or it is.
        """
        same_file = FileRefused(Code.FILE, self.name, "input and output are the same file")
        if self.final.suffix.lower() in _SPREADSHEETS:
            message = "spreadsheets are not written; name it .csv, which they open"
            raise FileRefused(Code.FILE, self.name, message)
        # Also before .gz and .zst: `out.zip.gz` would hold no zip archive.
        _, plain = compression_by_name(shown_name(self.name).removesuffix("?…"))
        ending = os.path.splitext(plain)[1].lower()  # noqa: PTH122 - a URL is no path
        if ending in _FOREIGN and not self.is_stream:
            message = f"{ending} is not written: name it .csv, .jsonl or .parquet, with .gz or .zst behind it to compress it"
            raise FileRefused(Code.FILE, self.name, message)
        if self.is_url:
            if self.name == source:
                raise same_file
            with writing(self.name, is_kept=False):
                file_system(self.name)
                self.part.parent.mkdir(parents=True, exist_ok=True)
            return
        final, folder = self.final, self.final.parent
        beside = (self.part, self.whole, self.journal, self.errors, self.errors_part)
        with writing(self.name, is_kept=False):
            if self.descriptor is not None:
                os.fstat(self.descriptor)
                return
            check_links(self.name)
            if not folder.is_dir():
                raise FileRefused(Code.FILE, self.name, f"there is no directory {folder}")
            if self.kind == stat.S_IFDIR:
                raise FileRefused(Code.FILE, self.name, "it is a directory; name a file in it")
            if not self.is_stream and self.kind not in (None, stat.S_IFREG):
                message = (
                    f"it is {_KINDS.get(self.kind or 0, 'no file')}; name a file, a named pipe or -"
                )
                raise FileRefused(Code.FILE, self.name, message)
            is_local = source != STANDARD and not is_url(source) and Path(source).exists()
            files = (final, *beside) if is_local else ()
            if any(path.exists() and path.samefile(source) for path in files):
                raise same_file
            if self.kind is not None and not os.access(final, os.W_OK):
                raise FileRefused(Code.FILE, self.name, "it is there already and write-protected")
            if self.is_stream:
                return
            if not os.access(folder, os.W_OK | os.X_OK):
                message = f"it cannot be written: no permission to write into {folder}"
                raise FileRefused(Code.FILE, self.name, message)
            for path in beside:
                check_regular(path)

    def open_stream(self) -> Any:
        """The open output of a stream, without a buffer; None as long as a named pipe has no reader."""
        with writing(self.name, is_kept=False):
            if self.descriptor is not None:
                sys.stdout.flush()
                return os.fdopen(os.dup(self.descriptor), "wb", buffering=0)
            try:
                # Opened to wait, a pipe without a reader would keep Ctrl-C waiting, too.
                descriptor = os.open(self.final, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
            except OSError as error:
                if error.errno == errno.ENXIO and self.kind == stat.S_IFIFO:
                    return None
                raise
            os.set_blocking(descriptor, True)
            return os.fdopen(descriptor, "wb", buffering=0)

    def is_unfinished(self) -> bool:
        """Whether a run began and did not end."""
        return not self.is_stream and self.journal.exists() and self.part.exists()

    def discard(self) -> None:
        """Remove an unfinished run but for its journal, which is its lock."""
        for path in (self.part, self.whole, self.errors_part):
            path.unlink(missing_ok=True)

    def publish(self, finish: Callable[[Path, Any], bool]) -> None:
        """Give the output, and the error report if there is any, their names.

        `finish` may write the final file, which is open, out of the part, and returns whether it did.
        """
        self.whole.unlink(missing_ok=True)
        with open_private(self.whole) as file:
            complete = self.whole if finish(self.part, file) else self.part
        _sync(complete)
        has_errors = self.errors_part.exists()
        # Without errors, the report of an earlier run is removed: it would be taken for the report of this run.
        if self.is_url:
            fs, path = file_system(self.name)
            if has_errors:
                fs.put_file(str(self.errors_part), f"{path}.errors.csv")
            elif fs.exists(f"{path}.errors.csv"):
                fs.rm_file(f"{path}.errors.csv")
            fs.put_file(str(complete), path)
        else:
            if has_errors:
                # The report quotes values of the input: who may not read the output may not read the report.
                _keep_rights(self.errors_part, self.errors, self.final)
                _sync(self.errors_part)
                self.errors_part.replace(self.errors)
            else:
                self.errors.unlink(missing_ok=True)
            _keep_rights(complete, self.final)
            complete.replace(self.final)
            # Not every file system can sync a directory; the rename itself is done.
            with contextlib.suppress(OSError):
                _sync(self.final.parent)
        self.discard()

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
        self._file = open_private(path)
        self._file.truncate(length)
        self._sync_bytes = sync_bytes
        self._synced = self._requested = length
        """Bytes that are on the disk, and that will be there after the sync that is running."""
        self._error: OSError | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scoreline-sync")
        self._syncing: Future[None] | None = None

    def write(self, data: memoryview) -> int:
        """Append some of the bytes; returns how many.

        Raises:
            OSError: these cannot be written, or earlier ones did not reach the disk.
        """
        self._check()
        count: int = self._file.write(data)
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
        writer = csv.DictWriter(
            text, REPORT_COLUMNS, restval="", extrasaction="ignore", lineterminator="\n"
        )
        if self.length == 0:
            writer.writeheader()
        before = text.tell()
        # People open it in a spreadsheet, and a value of the input may be a formula that somebody made.
        for problem in problems:
            line = {name: problem[name] for name in REPORT_COLUMNS if name in problem}
            for name in ("column", "value", "message"):
                if isinstance(value := line.get(name), str):
                    line[name] = spreadsheet_safe(value)
            writer.writerow(line)
        if self._path is None or text.tell() == before:
            return
        data = text.getvalue().encode("utf-8", "backslashreplace")
        with open_private(self._path) as file:
            file.truncate(self.length)
            write_all(file, data)
        self.length += len(data)


def open_private(path: Path, mode: int = 0o600) -> Any:
    """Open a file beside an output for appending, without a buffer; by default only its owner can read it.

    Raises:
        FileRefused: somebody has put a link, a pipe or the like there, or a hard link to another file.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, mode)
    except OSError:
        check_regular(path)
        raise
    info = os.fstat(descriptor)
    if not stat.S_ISREG(info.st_mode) or info.st_nlink > 1:
        os.close(descriptor)
        check_regular(path)
        message = "it has another name (a hard link), which would be written to: remove it"
        raise FileRefused(Code.FILE, str(path), message)
    if mode == 0o600:
        # An earlier release may have made it readable by others.
        with contextlib.suppress(OSError):
            os.fchmod(descriptor, mode)
    return os.fdopen(descriptor, "a+b", buffering=0)


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
def writing(name: str, *, is_kept: bool = True) -> Iterator[None]:
    """Make an error of the operating system one of Scoreline's; `is_kept`: what was scored is kept.

    Raises:
        FileRefused: E_DISK_FULL, or E_FILE with the system's reason.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            message = "there is no room left on the disk"
            is_stream = name == "-"
            message += (
                "; what was scored is kept"
                if is_kept and not is_stream
                else " that it is written to"
            )
            where = "standard output" if is_stream else name
            raise FileRefused(Code.DISK_FULL, where, message) from error
        if isinstance(error, BrokenPipeError):
            message = "broken pipe: the reader of the output has closed it"
            raise FileRefused(Code.FILE, name, message) from error
        reason = error.strerror or str(error)
        refused = FileRefused(Code.FILE, name, f"it cannot be written: {reason}")
        raise refused from (None if is_url(name) else error)
    # An error of fsspec's libraries is not kept as the cause: it may quote the URL with a token in it.
    except Exception as error:
        if not is_url(name) or isinstance(error, ScorelineError):
            raise
        reason = f"{type(error).__name__}: {error}"
        raise FileRefused(Code.FILE, name, f"it cannot be written: {reason}") from None


def _sync(path: Path) -> None:
    """Bring a file, or the names in a directory, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# Names that are no files


def descriptor_of(name: str) -> int | None:
    """The open file of this process that a name such as /dev/stdout stands for, directly or by links."""
    for _ in range(_MOST_LINKS):
        folder, last = os.path.split(name)
        is_number = last.isdecimal() and len(last) <= _LONGEST_DESCRIPTOR
        if is_number and os.path.realpath(folder) in (f"/proc/{os.getpid()}/fd", "/dev/fd"):
            return int(last)
        try:
            link = os.readlink(name)  # noqa: PTH115 - it is text
        except OSError:
            break
        name = os.path.join(folder, link)  # noqa: PTH118 - it is text
    return None


def check_regular(path: Path) -> None:
    """Check that a name beside an output is free, or a regular file's.

    Raises:
        FileRefused: it is something else, which would be followed, kept waiting for, or replaced.
    """
    kind = _kind(path)
    if kind not in (None, stat.S_IFREG):
        message = (
            f"it is {_KINDS.get(kind, 'no file')}, and a file is to be written there: remove it"
        )
        raise FileRefused(Code.FILE, str(path), message)


def check_links(name: str) -> None:
    """Check that an output's links lead somewhere, and are not another user's in a folder that all may write.

    Raises:
        FileRefused: they do not, or are; as the kernel would refuse it (`fs.protected_symlinks`).
    """
    path = Path(name)
    for _ in range(_MOST_LINKS):
        if _kind(path) != stat.S_IFLNK:
            return
        folder, owner = path.parent.stat(), path.lstat().st_uid
        is_shared = folder.st_mode & stat.S_ISVTX and folder.st_mode & stat.S_IWOTH
        if is_shared and owner not in (os.geteuid(), folder.st_uid):
            message = f"{path} is another user's link in a folder that all may write to"
            raise FileRefused(Code.FILE, name, message)
        path = path.parent / path.readlink()
    raise FileRefused(Code.FILE, name, "its links lead back to themselves")


def _kind(path: Path) -> int | None:
    """The kind of file that has a name, links not followed, as one of the system's `S_IF…`; None: there is none."""
    try:
        return stat.S_IFMT(path.lstat().st_mode)
    except OSError:
        return None


def _keep_rights(path: Path, *earlier: Path) -> None:
    """Give a file mode, group and owner of the first of the earlier files that is there, else those of a new file.

    A group that this user may not give loses its rights, instead of another group having them.

    Raises:
        FileRefused: what is there is no regular file any more, and would be replaced.
    """
    for candidate in earlier:
        check_regular(candidate)
    before = next((candidate for candidate in earlier if candidate.exists()), None)
    if before is None:
        # A probe shows which mode a new file gets here, by the process's mask or the folder's access list.
        probe = path.with_name(path.name + ".mode")
        probe.unlink(missing_ok=True)
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        os.close(descriptor)
        probe.unlink()
    else:
        old, new = before.stat(), path.stat()
        mode = stat.S_IMODE(old.st_mode) & 0o777
        for owner in dict.fromkeys((old.st_uid, new.st_uid)):
            with contextlib.suppress(OSError):
                os.chown(path, owner, old.st_gid)
                break
        if path.stat().st_gid != old.st_gid:
            mode &= ~0o070 | (mode & 0o007) << 3
    # Not every file system has modes and access lists.
    with contextlib.suppress(OSError):
        path.chmod(mode)
    if before is not None and hasattr(os, "getxattr"):
        with contextlib.suppress(OSError):
            os.setxattr(path, _ACCESS_LIST, os.getxattr(before, _ACCESS_LIST))
