"""Data files that came with an artifact, as `importlib.resources` hands them out; from memory."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable, Iterator, Mapping
from importlib.resources.abc import Traversable, TraversableResources
from typing import IO, Any


class _Node(Traversable):
    """Something that can be opened, or says why it cannot."""

    def read_bytes(self) -> bytes:
        """Its content."""
        with self.open("rb") as file:
            return bytes(file.read())

    def read_text(self, encoding: str | None = None) -> str:
        """Its content as text."""
        return self.read_bytes().decode(encoding or "utf-8")


class Folder(_Node):
    """A package's folder, or one inside it."""

    def __init__(
        self, name: str, files: Mapping[str, bytes], on_missing: Callable[[str], None], at: str = ""
    ) -> None:
        """`files` by their path below the package; `on_missing` is told what is asked for in vain."""
        self._name = name
        self._files = files
        self._on_missing = on_missing
        self._at = at

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self._name

    def iterdir(self) -> Iterator[Traversable]:
        """What is directly in here."""
        if not self._at:
            self._on_missing("*")
        inside = {path[len(self._at) :].partition("/")[0] for path in self._below()}
        return (self._child(name) for name in sorted(inside))

    def is_dir(self) -> bool:
        """Whether there is anything in it; only files came with the artifact."""
        return not self._at or bool(self._below())

    def is_file(self) -> bool:
        """Never."""
        return False

    def joinpath(self, *descendants: Any) -> Traversable:
        """What is at a path below it, there or not."""
        parts = [
            part for one in descendants for part in str(one).split("/") if part not in ("", ".")
        ]
        found: Traversable = self
        for part in parts:
            found = found._child(part) if isinstance(found, Folder) else found.joinpath(part)
        return found

    def open(self, mode: str = "r", *_: Any, **__: Any) -> IO[Any]:  # noqa: ARG002
        """A folder cannot be opened; one that is not there, even less.

        Raises:
            FileNotFoundError, IsADirectoryError: always.
        """
        path = self._at.rstrip("/")
        if self._at and not self._below():
            self._on_missing(path)
            raise FileNotFoundError(errno.ENOENT, "it did not come with the model", path)
        raise IsADirectoryError(path or self._name)

    def _below(self) -> list[str]:
        return [path for path in self._files if path.startswith(self._at)]

    def _child(self, name: str) -> Traversable:
        path = self._at + name
        if path in self._files:
            return File(name, self._files[path])
        if not any(one.startswith(path + "/") for one in self._files):
            self._on_missing(path)
        return Folder(name, self._files, self._on_missing, path + "/")


class File(_Node):
    """One data file."""

    def __init__(self, name: str, data: bytes) -> None:
        self._name = name
        self._data = data

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self._name

    def iterdir(self) -> Iterator[Traversable]:
        """Never anything."""
        raise NotADirectoryError(self._name)

    def is_dir(self) -> bool:
        """Never."""
        return False

    def is_file(self) -> bool:
        """Always."""
        return True

    def joinpath(self, *descendants: Any) -> Traversable:
        """Itself, or nothing that is there."""
        if not descendants:
            return self
        raise NotADirectoryError(self._name)

    def open(self, mode: str = "r", *arguments: Any, **options: Any) -> IO[Any]:
        """A file object on its content."""
        raw = io.BytesIO(self._data)
        return raw if "b" in mode else io.TextIOWrapper(raw, *arguments, **options)


class Reader(TraversableResources):
    """What `importlib.resources` asks a loader for."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def files(self) -> Folder:
        """The package's folder."""
        return self._folder
