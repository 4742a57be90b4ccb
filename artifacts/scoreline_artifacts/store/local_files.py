"""Files of this machine that appear whole or not at all, whoever is killed meanwhile."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from scoreline_artifacts.errors import CorruptArtifact

_REPLACED_TRIES = 5


def write_file(path: Path, data: bytes, *, exclusive: bool = False, mode: int = 0o644) -> None:
    """Create or replace a file of this machine with all of its content at once, and sync it to the disk.

    The content is written under another name first, beside the file. The file's name is synced as well.

    Raises:
        FileExistsError: `exclusive`, and it exists already.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        # This error would say that the file itself exists.
        number = errno.ENOTDIR
        raise NotADirectoryError(number, os.strerror(number), str(path.parent)) from error
    # mkstemp's file is its owner's only, from its first moment on.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        if exclusive:
            os.link(temporary, path)
        else:
            os.replace(temporary, path)  # noqa: PTH105 - both names are text
    finally:
        # The file may have its name by now: a failure here must not look as if it had not. The same holds
        # for the directories, which not every file system can sync.
        with contextlib.suppress(OSError):
            os.unlink(temporary)  # noqa: PTH108 - it is text
    # The directory may be new itself, and its name is in the one above.
    for directory in (path.parent, path.parent.parent):
        with contextlib.suppress(OSError):
            descriptor = os.open(directory, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


class DurableFileSystem(LocalFileSystem):  # type: ignore[misc] # fsspec ships no types
    """fsspec's local file system, with files that appear whole and survive a power cut.

    It reads regular files alone: no link is followed, and no pipe keeps a reader waiting.
    """

    cachable = False

    def __init__(self, staging: str) -> None:
        super().__init__()
        self.staging = staging

    def ls(self, path: str, detail: bool = False, **_: Any) -> list[Any]:
        entries = []
        with os.scandir(path) as scan:
            for entry in scan:
                # Another process may have removed it since.
                with contextlib.suppress(FileNotFoundError):
                    entries.append(self.info(entry) if detail else entry.path)
        return entries

    def find(self, path: str, **_: Any) -> dict[str, dict[str, Any]]:
        """All files below a path, in detail.

        Raises:
            CorruptArtifact: something there is neither a file nor a directory that holds one.
        """
        path = path.rstrip("/")
        entries = super().find(path, detail=True, withdirs=True, on_error="raise")
        directories = {name for name, entry in entries.items() if entry["type"] == "directory"}
        files = {name: entries[name] for name in entries.keys() - directories}
        for name, entry in files.items():
            if entry["islink"] or entry["type"] != "file":
                raise CorruptArtifact(name, "a link, or something else that is not a regular file")
        used = {str(parent) for name in files for parent in PurePosixPath(name).parents}
        if empty := directories - used - {path}:
            raise CorruptArtifact(min(empty), "an empty directory in an artifact")
        return files

    def cat_file(
        self,
        path: str,
        start: int | None = None,  # noqa: ARG002 - fsspec's signature; every read starts at 0
        end: int | None = None,
        **_: Any,
    ) -> bytes:
        # A pipe in a file's place must not make a reader wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise CorruptArtifact(path, "not a regular file")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return file.read(end)
        finally:
            os.close(descriptor)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        """Create or replace a file with all of its content at once, and sync it to the disk.

        Raises:
            FileExistsError: the mode is `create`, and it exists already.
            CorruptArtifact: one of its folders is a link.
        """
        for _attempt in range(_REPLACED_TRIES):
            # An earlier release of Scoreline publishes by a rename, which replaces a folder that is empty.
            with contextlib.suppress(FileNotFoundError):
                return self._write_whole(path, value, mode)
        raise FileNotFoundError(errno.ENOENT, "its folder is replaced again and again", path)

    def _write_whole(self, path: str, value: bytes, mode: str) -> None:
        staged = f"{self._root}/{PurePosixPath(self.staging).name}/.writing-{secrets.token_hex(8)}"
        with (
            self._folder_of(path, make=True) as (folder, name),
            self._folder_of(staged, make=True) as (staging, temporary),
        ):
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
                descriptor = os.open(temporary, flags, 0o600, dir_fd=staging)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(value)
                    file.flush()
                    os.fchmod(descriptor, 0o644)
                    os.fsync(descriptor)
                give_name = os.link if mode == "create" else os.replace
                give_name(temporary, name, src_dir_fd=staging, dst_dir_fd=folder)
            finally:
                # The file may have its name by now: a failure here must not look as if it had not.
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=staging)
            # Names are synced with the last file of a version or a release; not every file system can do it.
            with contextlib.suppress(OSError):
                for directory in (".", "..") if mode == "create" else ():
                    descriptor = os.open(directory, os.O_RDONLY, dir_fd=folder)
                    try:
                        os.fsync(descriptor)
                    finally:
                        os.close(descriptor)

    def rm_file(self, path: str) -> None:
        self.rm(path)

    def rm(self, path: str, recursive: bool = False, maxdepth: int | None = None) -> None:  # noqa: ARG002 - fsspec's signature
        """Remove a file, or a folder with all that it holds, and nothing outside of the store.

        Raises:
            CorruptArtifact: one of its folders is a link.
        """
        with self._folder_of(path) as (folder, name):
            mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
            if recursive and stat.S_ISDIR(mode):
                shutil.rmtree(name, dir_fd=folder)
            else:
                os.remove(name, dir_fd=folder)

    @property
    def _root(self) -> str:
        # The root is the operator's choice, and may be a link.
        return os.path.realpath(os.path.dirname(self.staging))  # noqa: PTH120 - it is text

    @contextlib.contextmanager
    def _folder_of(self, path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
        """The folder of a path, opened, and the name in it.

        A path that was checked may have become another one since: who can write to the store can put a link
        in the place of any folder of it. So every folder is opened below the one before it.

        Raises:
            CorruptArtifact: one of them is a link.
        """
        root = self._root
        flags = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY
        *folders, name = PurePosixPath(path).relative_to(root).parts
        if make:
            Path(root).mkdir(parents=True, exist_ok=True)
        opened = os.open(root, flags)
        try:
            for folder in folders:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(folder, dir_fd=opened)
                try:
                    below = os.open(folder, flags | os.O_NOFOLLOW, dir_fd=opened)
                except OSError as error:
                    mode = os.stat(folder, dir_fd=opened, follow_symlinks=False).st_mode
                    if stat.S_ISLNK(mode) or not make:
                        raise CorruptArtifact(path, "it is a link, or behind one") from error
                    raise
                os.close(opened)
                opened = below
            yield opened, name
        finally:
            os.close(opened)
