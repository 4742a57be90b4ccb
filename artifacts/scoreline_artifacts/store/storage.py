"""The files of an artifact store, in a folder or in a bucket: listing, reading, exclusive creation, removal.

    <root>/.store.json                            who the store is, see identity.py
    <root>/<model>/numbers/<n>.json               the claim of a version's number; never removed
    <root>/<model>/versions/<n>/…                 one artifact each; signature.json is written last
    <root>/<model>/releases/<alias>/<number>.json one release each, see releases.py
    <root>/<model>/pins/<n>.json                  versions that are kept, see retention.py
    <root>/.staging/…                             in a folder only: files that are being written

A publisher claims a number by creating a file that must not exist yet. Nobody else writes under that
number, and what is written under it becomes a version with its last file, the signature. A publisher that
is killed has used up a number and left nothing that is listed.

Earlier releases of Scoreline publish into a folder without a claim: they rename a complete directory to
`versions/<n>`, which fails if that directory holds a file. The manifest, the first file of a version, is
therefore created exclusively too: either it stops them, or their manifest stops this publisher.

A bucket's service must create a file for one caller only, and must not list stale names. S3 promises both
(`If-None-Match: *`). Some services that speak its protocol ignore that header, which would give two
publishers one number: so the first creation of a process is repeated, and must fail.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import posixpath
import secrets
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import fsspec

from scoreline_artifacts.errors import (
    ArtifactError,
    CorruptArtifact,
    InvalidName,
    StoreUnreachable,
    UnsuitableStore,
)
from scoreline_artifacts.manifest import MANIFEST, SIGNATURE
from scoreline_artifacts.store.local_files import DurableFileSystem
from scoreline_client.protocol.names import NAME_RULE, is_alias, is_name, version_number
from scoreline_client.shown import shown_name

EXCLUSIVE = {"s3": "scoreline[s3]", "s3a": "scoreline[s3]", "memory": "fsspec"}
"""Protocols that are known to create a file for one caller only, and what to install for them."""
MANIFEST_LIMIT_BYTES = 64 * 1024 * 1024
STAGING = ".staging"
_CONFLICT_TRIES = 8
"""Tries of a creation that S3 answers with 409: another caller was creating the same file."""
_OF_ONE_FILE = frozenset(
    {errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO, errno.ENAMETOOLONG}
    | {errno.EACCES, errno.EPERM}
)
"""Errors of reading that concern one file or directory, and not the whole store."""
_FOLDER_ADVICE = (
    "Check SCORELINE_ARTIFACTS, the rights of this user on the folder, and the room on its disk."
)
_FILE_NAME_RULE = (
    "names of directories and of a file with '/' between them; none of them empty, '.' or '..', "
    "no backslash, no control character, at most 255 bytes each and 1000 in all"
)
_memory_lock = threading.Lock()
"""fsspec's file system in memory tests for a file first and writes it then."""


class Storage:
    """A folder or a bucket that holds a store. Paths are relative to its root, with `/` between parts.

    Every operation raises StoreUnreachable if the folder or the service refuses it, UnsuitableStore if it
    can never hold a store, and CorruptArtifact for a link below the root. No other error of the operating
    system or of a service's library gets out, except those that an operation names.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = root
        self._protocol = "file" if isinstance(root, Path) else root.partition("://")[0]
        if isinstance(root, str) and self._protocol not in EXCLUSIVE:
            raise UnsuitableStore(
                root,
                f"{self._protocol}:// is not known to let one of two publishers have a number. "
                f"Use a folder, or one of {', '.join(sorted(EXCLUSIVE))}",
            )
        self._connections: dict[int, tuple[Any, str]] = {}
        self._creates_exclusively = isinstance(root, Path)

    def location(self, path: str) -> Path | str:
        """A path with its root, to be displayed."""
        return (
            self.root / path if isinstance(self.root, Path) else f"{shown_name(self.root)}/{path}"
        )

    def names(self, folder: str) -> list[str]:
        """Names in a folder; none if it does not exist."""
        try:
            with self._errors_mapped(FileNotFoundError, reading=folder):
                paths = self._system.ls(self._at(folder), detail=False)
        except FileNotFoundError:
            return []
        return [posixpath.basename(path.rstrip("/")) for path in paths]

    def names_below(self, folder: str, *, whole: bool = False) -> dict[str, list[str]]:
        """Names in every directory of a folder; in a bucket by one request.

        Directories that are links or cannot be read are left out, unless `whole` is asked for.

        Raises:
            CorruptArtifact: `whole` is asked for, and a directory is a link or cannot be read.
        """
        names: dict[str, list[str]] = {}
        if isinstance(self.root, str):
            for path in self.files(folder):
                directory, _, name = path.partition("/")
                if name and "/" not in name:
                    names.setdefault(directory, []).append(name)
            return names
        try:
            with self._errors_mapped(FileNotFoundError, reading=folder):
                entries = self._system.ls(self._at(folder), detail=True)
        except FileNotFoundError:
            return {}
        for entry in entries:
            directory = posixpath.basename(entry["name"])
            # A link is listed only to be refused.
            if entry["type"] == "directory" or (whole and entry["islink"]):
                with contextlib.nullcontext() if whole else contextlib.suppress(CorruptArtifact):
                    names[directory] = self.names(f"{folder}/{directory}")
        return names

    def files(self, folder: str) -> dict[str, int]:
        """Sizes of all files below a folder, by their paths from there; none if it does not exist.

        Raises:
            CorruptArtifact: something in it is neither a file nor a directory that holds one.
        """
        start = self._at(folder) + "/"
        try:
            with self._errors_mapped(FileNotFoundError, reading=folder):
                entries = self._system.find(start, detail=True)
        except FileNotFoundError:
            return {}
        return {
            path.removeprefix(start): int(entry["size"])
            for path, entry in entries.items()
            if path.startswith(start)
        }

    def read(self, path: str, *, limit_bytes: int) -> bytes:
        """The bytes of a file.

        Raises:
            FileNotFoundError: it does not exist.
            CorruptArtifact: it is longer than the limit, or not a regular file.
        """
        data = self._read_beginning(path, limit_bytes + 1)
        if len(data) > limit_bytes:
            raise CorruptArtifact(self.location(path), f"it has more than {limit_bytes} bytes")
        return data

    def create(self, path: str, data: bytes) -> None:
        """Create a file with all of its content at once. Of several callers one succeeds.

        `data` must differ from what any other caller would write: in a bucket, a file with the same bytes
        counts as this caller's own.

        Raises:
            FileExistsError: it exists already.
        """
        try:
            self._create(path, data)
        except FileExistsError:
            # A bucket's library repeats a request whose answer was lost, and meets its own file.
            if isinstance(self.root, Path) or self._read_beginning(path, len(data) + 1) != data:
                raise
        if not self._creates_exclusively:
            with contextlib.suppress(FileExistsError):
                self._create(path, data)
                raise UnsuitableStore(
                    self.root,
                    "it writes over a file that must not exist yet (it ignores `If-None-Match: *`), "
                    "so two publishers could get the same number",
                )
            self._creates_exclusively = True

    def write(self, files: Mapping[str, bytes]) -> None:
        """Write files where nobody else does: under a number that was claimed."""
        with self._errors_mapped():
            self._system.pipe({self._at(path): data for path, data in files.items()})

    def remove(self, path: str) -> None:
        """Remove a file that may exist."""
        with contextlib.suppress(FileNotFoundError), self._errors_mapped(FileNotFoundError):
            self._system.rm_file(self._at(path))

    def remove_folder(self, folder: str) -> None:
        """Remove a folder, if it exists, with all that it holds."""
        with contextlib.suppress(FileNotFoundError), self._errors_mapped(FileNotFoundError):
            self._system.rm(self._at(folder), recursive=True)

    def claim_number(self, model: str, *, above: int = 0) -> int:
        """Claim a number for a version: one that no publisher has had, and above `above`."""
        claimed = (name.removesuffix(".json") for name in self.names(f"{model}/numbers"))
        published = self.names(f"{model}/versions")
        number = max([above, *version_numbers(claimed), *version_numbers(published)]) + 1
        claim = json.dumps({"publisher": secrets.token_hex(16)}).encode()
        while True:
            try:
                self.create(f"{model}/numbers/{number}.json", claim)
            except FileExistsError:
                number += 1
            else:
                return number

    def versions(self, model: str) -> list[int]:
        """Numbers of a model's complete versions, ascending."""
        versions = self.names_below(f"{model}/versions")
        return version_numbers(
            number
            for number, names in versions.items()
            if SIGNATURE in names or (MANIFEST in names and self._is_of_format_1(model, number))
        )

    def remove_version(self, model: str, version: int) -> None:
        """Remove a version: it is not listed any more from the first step on."""
        self.remove(f"{model}/versions/{version}/{SIGNATURE}")
        self.remove_folder(f"{model}/versions/{version}")

    def remove_leftovers(self, model: str, *, before: float) -> list[str]:
        """Remove the files of publishers that were killed before a moment (seconds since 1970).

        Returns the paths of what was removed.
        """
        complete = set(self.versions(model))
        removed = []
        for number in version_numbers(self.names_below(f"{model}/versions")):
            if number not in complete and self._begun_at(model, number) < before:
                folder = f"{model}/versions/{number}"
                self.remove_folder(folder)
                removed.append(folder)
        if isinstance(self.root, Path):
            with self._errors_mapped():
                # Earlier releases left files beside releases, and directories in the staging folder.
                patterns = (f"{STAGING}/*", f"{model}/releases/*/.writing-*")
                paths = [path for pattern in patterns for path in self.root.glob(pattern)]
            for path in paths:
                leftover = str(path.relative_to(self.root))
                # Its writer may have finished with it since; and a link is nobody's temporary file.
                with (
                    contextlib.suppress(FileNotFoundError, CorruptArtifact),
                    self._errors_mapped(FileNotFoundError),
                ):
                    if path.lstat().st_mtime < before:
                        self._system.rm(self._at(leftover), recursive=True)
                        removed.append(leftover)
        return removed

    def _begun_at(self, model: str, number: int) -> float:
        """When an incomplete version was begun, by the storage's clock; 0 if that is not known."""
        paths = [f"{model}/numbers/{number}.json"]
        if isinstance(self.root, Path):
            # A version without a claim may be in a copy of a store that is still being made.
            paths.append(f"{model}/versions/{number}")
        for path in paths:
            with contextlib.suppress(FileNotFoundError), self._errors_mapped(FileNotFoundError):
                return float(self._system.modified(self._at(path)).timestamp())
        return 0.0

    def _is_of_format_1(self, model: str, number: str) -> bool:
        """Whether a version without a signature is complete: versions of format 1 are not signed."""
        try:
            path = f"{model}/versions/{number}/{MANIFEST}"
            data = self.read(path, limit_bytes=MANIFEST_LIMIT_BYTES)
        except (CorruptArtifact, FileNotFoundError):
            return False
        return b'"format_version":1,' in data

    def _create(self, path: str, data: bytes) -> None:
        lock = _memory_lock if self._protocol == "memory" else contextlib.nullcontext()
        with self._errors_mapped(FileExistsError), lock:
            for _ in range(_CONFLICT_TRIES):
                try:
                    self._system.pipe_file(self._at(path), data, mode="create")
                except OSError as error:
                    code = _s3_code(error)
                    if code == "PreconditionFailed":
                        raise FileExistsError(errno.EEXIST, "it exists", path) from error
                    if code != "ConditionalRequestConflict":
                        raise
                else:
                    return
            raise FileExistsError(errno.EEXIST, "others create it at the same time", path)

    def _read_beginning(self, path: str, count: int) -> bytes:
        with self._errors_mapped(FileNotFoundError, reading=path):
            try:
                data: bytes = self._system.cat_file(self._at(path), start=0, end=count)
            except OSError as error:
                # An empty file has no first byte to begin with.
                if _s3_code(error) == "InvalidRange":
                    return b""
                raise
            return data

    def _at(self, path: str) -> str:
        """A path as the file system has it.

        Raises:
            CorruptArtifact: a part of it below the root is a link.
        """
        prefix = self._connection[1]
        if isinstance(self.root, Path):
            # The root is the operator's choice, and may be a link.
            prefix = os.path.realpath(prefix)
            full = f"{prefix}/{path}".rstrip("/")
            if os.path.realpath(full) != full:
                raise CorruptArtifact(self.location(path), "it is a link, or behind one")
            return full
        return "/".join(filter(None, (prefix, path)))

    @property
    def _system(self) -> Any:
        return self._connection[0]

    @property
    def _connection(self) -> tuple[Any, str]:
        """This process's file system, and the root as it has it.

        Connections and their thread do not survive a fork. Listings are never cached: what others
        publish must be seen.
        """
        process_id = os.getpid()
        if process_id in self._connections:
            return self._connections[process_id]
        if isinstance(self.root, Path):
            root = os.path.abspath(self.root)  # noqa: PTH100 - not resolved: the link may change
            system = DurableFileSystem(f"{root}/{STAGING}")
        else:
            try:
                system, root = fsspec.core.url_to_fs(
                    self.root, skip_instance_cache=True, use_listings_cache=False
                )
            except ImportError as error:
                package = EXCLUSIVE[self._protocol]
                raise UnsuitableStore(self.root, f"{error}. pip install '{package}'") from error
        # The parent process's connection stays, unused: closing it here would wait for a thread of the parent.
        self._connections[process_id] = system, root.rstrip("/")
        return self._connections[process_id]

    @contextlib.contextmanager
    def _errors_mapped(
        self, *expected: type[OSError], reading: str | None = None
    ) -> Iterator[None]:
        """Turn errors of the operating system or of a service into errors of the store.

        `reading` is the path that is read, if one is: some errors concern only that.
        """
        try:
            yield
        except ArtifactError:
            raise
        # Whatever a service's library raises, it is about the service.
        except Exception as error:
            if _s3_code(error) == "NoSuchBucket":
                raise StoreUnreachable(self.root, "there is no such bucket") from error
            if isinstance(error, expected):
                raise
            if isinstance(self.root, str):
                reason = f"{type(error).__name__}: {error}"
                raise StoreUnreachable(self.root, reason) from error
            if not isinstance(error, OSError):
                raise
            if error.errno == errno.ENOTDIR and not os.path.isdir(self.root):  # noqa: PTH112 - never raises
                reason = "it, or something above it, is not a directory"
                raise UnsuitableStore(self.root, reason) from error
            if reading and error.errno in _OF_ONE_FILE and os.access(self.root, os.R_OK | os.X_OK):
                reason = f"it cannot be read: {error.strerror}"
                raise CorruptArtifact(self.location(reading), reason) from error
            raise StoreUnreachable(self.root, error, _FOLDER_ADVICE) from error


def check_name(name: str) -> str:
    """Return a name that a model can have.

    Raises:
        InvalidName: it cannot be one.
    """
    if not is_name(name):
        raise InvalidName(name, NAME_RULE)
    return name


def check_alias(name: str) -> str:
    """Return a name that an alias can have.

    Raises:
        InvalidName: it cannot be one.
    """
    if not is_alias(check_name(name)):
        raise InvalidName(name, "an alias of digits only would be taken for a version's number")
    return name


def check_file_name(name: str) -> str:
    """Return a name that a file of an artifact can have, such as `sources/package/module.py`.

    Raises:
        InvalidName: it might lead out of the artifact, or mean different files on different systems.
    """
    try:
        segments = name.encode().split(b"/")
    except UnicodeEncodeError as error:
        raise InvalidName(name, _FILE_NAME_RULE) from error
    is_usable = (
        len(name.encode()) <= 1000
        and "\\" not in name
        and all(character.isprintable() for character in name)
        and all(segment not in (b"", b".", b"..") and len(segment) <= 255 for segment in segments)
    )
    if not is_usable:
        raise InvalidName(name, _FILE_NAME_RULE)
    return name


def version_numbers(names: Iterable[str]) -> list[int]:
    """The names that are numbers of versions as the store writes them, as numbers, ascending."""
    return sorted(int(name) for name in names if version_number(name) and name[0] != "0")


def _s3_code(error: BaseException) -> str | None:
    """S3's own code of an error that comes from there."""
    response = getattr(error.__cause__, "response", None) or {}
    code = response.get("Error", {}).get("Code")
    return code if isinstance(code, str) else None
