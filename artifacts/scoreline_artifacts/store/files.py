"""Files of a local folder that appear whole or not at all, whoever is killed on the way."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are missing.

    Raises:
        NotADirectoryError: something else has its name. It must not look as if a file that is about to
            be made in there existed already.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from error


def write_new(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Create a file with all of its content at once.

    Raises:
        FileExistsError: somebody else created it first.
    """
    make_folder(path.parent)
    with _written_beside(path, data, mode) as temporary:
        os.link(temporary, path)
        sync_folder(path.parent)


def write_over(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Create a file or replace it, all of its content at once."""
    make_folder(path.parent)
    with _written_beside(path, data, mode) as temporary:
        temporary.rename(path)
        sync_folder(path.parent)


def write_synced(path: Path, data: bytes) -> None:
    """Write a file that nobody sees yet, and have it on the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Have the names in a folder on the disk, as far as its file system can do that."""
    # By now everybody sees what is new in there: a failure must not be told as if it were not.
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _written_beside(path: Path, data: bytes, mode: int) -> Iterator[Path]:
    # mkstemp's file is for its owner only, from its first moment on.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(mode)
        yield temporary
    finally:
        # The file may have its name by now: a failure here must not be told as if it had not.
        with contextlib.suppress(OSError):
            temporary.unlink()
