"""An artifact store in a bucket, over fsspec.

    <root>/<model>/numbers/<n>.json               whose number it is, for ever
    <root>/<model>/versions/<n>/…                 one artifact each; signature.json comes last
    <root>/<model>/releases/<alias>/<number>.json one release each, see releases.py
    <root>/<model>/pins/<n>.json                  versions that are kept, see pruning.py

Nothing can be renamed there. So a publisher first takes a number, by creating a file that must not
exist yet; what it writes under that number then is nobody else's, and it is a version once its last
file, the signature, is there. A publisher that is killed has used up a number and left nothing that
anybody sees.

All that is asked of the service is that a file that must not exist yet is created by one only, and
that listings are not old; S3 promises both (`If-None-Match: *`). Some that speak its protocol accept
that header and do not heed it, which would let two publishers have one number: so the first creation of
a process is tried a second time, and must fail.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from scoreline_artifacts.errors import (
    ArtifactError,
    CorruptArtifact,
    StoreUnreachable,
    UnsuitableStore,
)
from scoreline_artifacts.manifest import SIGNATURE
from scoreline_artifacts.store.backends import Seal
from scoreline_artifacts.store.names import version_numbers

EXCLUSIVE = {"s3": "scoreline[s3]", "s3a": "scoreline[s3]", "memory": "fsspec"}
"""Protocols that are known to create a file for one only, and what to install for them."""
_CONFLICTS = 8
"""Tries of a creation that S3 answers with 409: somebody else was creating the same in that moment."""
_in_memory = threading.Lock()
"""fsspec's file system in memory looks first and writes then."""


class ObjectStore:
    """A store's root in a bucket."""

    def __init__(self, root: str) -> None:
        protocol = root.partition("://")[0]
        if protocol not in EXCLUSIVE:
            raise UnsuitableStore(
                root,
                f"{protocol}:// is not known to let one of two publishers have a number. "
                f"Use a folder, or one of {', '.join(sorted(EXCLUSIVE))}",
            )
        self.root = root
        self._protocol = protocol
        self._systems: dict[int, tuple[Any, str]] = {}
        self._proven = False

    def place(self, path: str) -> str:
        return f"{self.root}/{path}"

    def names(self, folder: str) -> list[str]:
        try:
            with self._reached():
                found = self._system.ls(self._at(folder), detail=False)
        except FileNotFoundError:
            return []
        return [name.rstrip("/").rpartition("/")[2] for name in found]

    def names_below(self, folder: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for path in self._sizes(folder):
            name, _, rest = path.partition("/")
            if rest and "/" not in rest:
                found.setdefault(name, []).append(rest)
        return found

    def files(self, folder: str) -> dict[str, int]:
        found = self._sizes(folder)
        if not found:
            raise FileNotFoundError(self.place(folder))
        return found

    def read(self, path: str, *, limit_bytes: int) -> bytes:
        with self._reached():
            data = self._read_beginning(path, limit_bytes + 1)
        if len(data) > limit_bytes:
            raise CorruptArtifact(self.place(path), f"it has more than {limit_bytes} bytes")
        return data

    def create(self, path: str, data: bytes) -> None:
        """Create a file that must not exist; `data` must not be what anybody else would write."""
        try:
            self._create(path, data)
        except FileExistsError:
            # Ours, if the answer to our first try got lost and the library tried again.
            with self._reached():
                found = self._read_beginning(path, len(data) + 1)
            if found != data:
                raise
        if not self._proven:
            self._prove(path, data)

    def remove(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError), self._reached():
            self._system.rm_file(self._at(path))

    def versions(self, model: str) -> list[int]:
        names = (path.split("/") for path in self._sizes(f"{model}/versions"))
        return version_numbers(one[0] for one in names if one[1:] == [SIGNATURE])

    def publish(self, model: str, files: Mapping[str, bytes], seal: Seal) -> int:
        number = self._take_number(model)
        folder = f"{model}/versions/{number}"
        try:
            self._write({f"{folder}/{name}": data for name, data in files.items()})
            for name, data in seal(number).items():
                self._write({f"{folder}/{name}": data})
        # Even Ctrl-C: what was written is in nobody's way, but it costs money.
        except BaseException:
            with contextlib.suppress(ArtifactError):
                self._remove_folder(folder)
            raise
        return number

    def remove_version(self, model: str, version: int) -> None:
        folder = f"{model}/versions/{version}"
        self.remove(f"{folder}/{SIGNATURE}")
        self._remove_folder(folder)

    def remove_leftovers(self, model: str, *, before: float) -> list[str]:
        complete = set(self.versions(model))
        begun = {path.split("/")[0] for path in self._sizes(f"{model}/versions")}
        removed = []
        for number in version_numbers(begun):
            if number not in complete and self._taken_at(model, number) < before:
                self._remove_folder(f"{model}/versions/{number}")
                removed.append(f"{model}/versions/{number}")
        return removed

    def _take_number(self, model: str) -> int:
        taken = [name.removesuffix(".json") for name in self.names(f"{model}/numbers")]
        number = max([0, *version_numbers(taken), *self.versions(model)]) + 1
        # What nobody else writes, so that a claim is known again.
        claim = json.dumps({"publisher": secrets.token_hex(16)}).encode()
        while True:
            try:
                self.create(f"{model}/numbers/{number}.json", claim)
            except FileExistsError:
                number += 1
            else:
                return number

    def _taken_at(self, model: str, number: int) -> float:
        """When a number was taken, by the service's clock; of what has no owner, long ago."""
        try:
            with self._reached():
                at = self._at(f"{model}/numbers/{number}.json")
                return float(self._system.modified(at).timestamp())
        except FileNotFoundError:
            return 0.0

    def _create(self, path: str, data: bytes) -> None:
        with (
            self._reached(),
            _in_memory if self._protocol == "memory" else contextlib.nullcontext(),
        ):
            for _ in range(_CONFLICTS):
                try:
                    self._system.pipe_file(self._at(path), data, mode="create")
                except OSError as error:
                    code = _code(error)
                    if code == "ConditionalRequestConflict":
                        continue
                    if code == "PreconditionFailed":
                        raise FileExistsError(errno.EEXIST, "it exists", path) from error
                    raise
                return
            raise FileExistsError(errno.EEXIST, "others create it at the same time", path)

    def _prove(self, path: str, data: bytes) -> None:
        """Create once more what exists, with the same bytes: it must be refused."""
        with contextlib.suppress(FileExistsError):
            self._create(path, data)
            raise UnsuitableStore(
                self.root,
                "it writes over a file that must not exist yet (`If-None-Match: *` is not heeded), "
                "so two publishers could get the same number",
            )
        self._proven = True

    def _sizes(self, folder: str) -> dict[str, int]:
        start = self._at(folder) + "/"
        try:
            with self._reached():
                found = self._system.find(start, detail=True)
        except FileNotFoundError:
            return {}
        return {
            path.removeprefix(start): int(one["size"])
            for path, one in found.items()
            if path.startswith(start)
        }

    def _read_beginning(self, path: str, count: int) -> bytes:
        try:
            data: bytes = self._system.cat_file(self._at(path), start=0, end=count)
        except OSError as error:
            # There is no first byte of an empty file to begin with.
            if _code(error) == "InvalidRange":
                return b""
            raise
        return data

    def _write(self, files: Mapping[str, bytes]) -> None:
        with self._reached():
            self._system.pipe({self._at(path): data for path, data in files.items()})

    def _remove_folder(self, folder: str) -> None:
        paths = [self._at(f"{folder}/{name}") for name in self._sizes(folder)]
        if paths:
            with contextlib.suppress(FileNotFoundError), self._reached():
                self._system.rm(paths)

    def _at(self, path: str) -> str:
        """A path as the file system has it."""
        return "/".join(filter(None, (self._system_and_prefix[1], path)))

    @property
    def _system(self) -> Any:
        return self._system_and_prefix[0]

    @property
    def _system_and_prefix(self) -> tuple[Any, str]:
        """This process's own: connections and their thread do not live through a fork. Listings are
        never remembered: what others publish must be seen."""
        process = os.getpid()
        if process not in self._systems:
            # The parent's stays, unused: to close it here would wait for a thread that is not here.
            self._systems[process] = self._connect()
        return self._systems[process]

    def _connect(self) -> tuple[Any, str]:
        try:
            import fsspec

            system, prefix = fsspec.core.url_to_fs(
                self.root, skip_instance_cache=True, use_listings_cache=False
            )
        except ImportError as error:
            package = EXCLUSIVE[self._protocol]
            raise UnsuitableStore(self.root, f"{error}. pip install '{package}'") from error
        return system, prefix.rstrip("/")

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except (FileExistsError, ArtifactError):
            raise
        except FileNotFoundError as error:
            if _code(error) == "NoSuchBucket":
                raise StoreUnreachable(self.root, "there is no such bucket") from error
            raise
        # Whatever the service's library raises, it is about the service.
        except Exception as error:
            raise StoreUnreachable(self.root, f"{type(error).__name__}: {error}") from error


def _code(error: BaseException) -> str | None:
    """What S3 calls an error, if it comes from there."""
    response = getattr(error.__cause__, "response", None) or {}
    found = response.get("Error", {}).get("Code")
    return found if isinstance(found, str) else None
