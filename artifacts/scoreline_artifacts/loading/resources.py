"""Data files that travelled with a version, as `importlib.resources` gives them to code; from memory."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable, Collection, Iterator, Mapping
from importlib.resources.abc import Traversable, TraversableResources
from typing import IO, Any


class _Readable(Traversable):
    def read_bytes(self) -> bytes:
        """The content."""
        with self.open("rb") as file:
            return bytes(file.read())

    def read_text(self, encoding: str | None = None, errors: str | None = None) -> str:
        """The content as text. `errors` is asked for from Python 3.13 on."""
        return self.read_bytes().decode(encoding or "utf-8", errors or "strict")


class Folder(_Readable):
    """A package's folder, or one inside it, whether it exists or not."""

    def __init__(
        self,
        name: str,
        files: Mapping[str, bytes],
        on_missing: Callable[[str], None],
        prefix: str = "",
        *,
        listed: Collection[str] = (),
    ) -> None:
        """`files` by path below the package; `on_missing` is called with the paths of missing files that code opens.

        `listed` are paths of files that the project has beside these, and that code sees; `on_missing` is called with
        `*` where it does.
        """
        self._name = name
        self._files = files
        self._on_missing = on_missing
        self._prefix = prefix
        self._listed = listed
        # Only files travel, so a folder exists if there is a file in it.
        self._exists = not prefix or any(path.startswith(prefix) for path in (*files, *listed))

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self._name

    def iterdir(self) -> Iterator[Traversable]:
        """The files and folders directly in it."""
        paths = [path for path in (*self._files, *self._listed) if path.startswith(self._prefix)]
        inside = {path.removeprefix(self._prefix).partition("/")[0] for path in paths}
        return (self.joinpath(name) for name in sorted(inside))

    def is_dir(self) -> bool:
        """Whether it exists."""
        return self._exists

    def is_file(self) -> bool:
        """Always False."""
        return False

    def joinpath(self, *descendants: Any) -> Traversable:
        """The file or folder at a path below it, whether it exists or not."""
        names = "/".join(map(str, descendants)).split("/")
        names = [name for name in names if name not in ("", ".")]
        if not names:
            return self
        path = self._prefix + names[0]
        child: Traversable
        if path in self._files:
            child = File(names[0], self._files[path])
        elif path in self._listed:
            self._on_missing("*")
            child = AbsentFile(names[0], path, self._on_missing)
        else:
            child = Folder(names[0], self._files, self._on_missing, path + "/", listed=self._listed)
        return child.joinpath(*names[1:])

    def open(self, mode: str = "r", *_: Any, **__: Any) -> IO[Any]:  # noqa: ARG002
        """Always fails.

        Raises:
            FileNotFoundError: it does not exist.
            IsADirectoryError: it exists.
        """
        path = self._prefix.rstrip("/")
        if not self._exists:
            self._on_missing(path)
            raise FileNotFoundError(errno.ENOENT, "it did not come with the model", path)
        raise IsADirectoryError(path or self._name)


class File(_Readable):
    """One data file."""

    def __init__(self, name: str, data: bytes) -> None:
        self._name = name
        self._data = data

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self._name

    def iterdir(self) -> Iterator[Traversable]:
        """Always raises NotADirectoryError."""
        raise NotADirectoryError(self._name)

    def is_dir(self) -> bool:
        """Always False."""
        return False

    def is_file(self) -> bool:
        """Always True."""
        return True

    def joinpath(self, *descendants: Any) -> Traversable:
        """The file itself; raises NotADirectoryError for a path below it."""
        if not descendants:
            return self
        raise NotADirectoryError(self._name)

    def open(self, mode: str = "r", *arguments: Any, **options: Any) -> IO[Any]:
        """A file object that reads the content."""
        raw = io.BytesIO(self._data)
        return raw if "b" in mode else io.TextIOWrapper(raw, *arguments, **options)


class AbsentFile(File):
    """A data file that the project has and that has not travelled: it can be seen, and is missed when opened."""

    def __init__(self, name: str, path: str, on_missing: Callable[[str], None]) -> None:
        super().__init__(name, b"")
        self._path = path
        self._on_missing = on_missing

    def open(self, mode: str = "r", *_: Any, **__: Any) -> IO[Any]:  # noqa: ARG002
        """Always raises FileNotFoundError."""
        self._on_missing(self._path)
        raise FileNotFoundError(errno.ENOENT, "it did not come with the model", self._path)


class Reader(TraversableResources):
    """A loader's resource reader."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def files(self) -> Folder:
        """The package's folder."""
        return self._folder
