"""What a place must be able to do to hold an artifact store; see local.py and object_store.py.

Paths are relative to the store's root, with `/` between their parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

Seal = Callable[[int], Mapping[str, bytes]]
"""Gives the files that complete a version of this number, in the order in which they are written; the
last one is what makes it a version."""


class Backend(Protocol):
    """A folder or a bucket.

    Every operation raises StoreUnreachable if the place refuses it, UnsuitableStore if it can never
    hold a store; no error of the operating system or of a service's library comes out but those named.
    """

    @property
    def root(self) -> Path | str:
        """Where it is, for people."""

    def place(self, path: str) -> Path | str:
        """Where a path is, for people."""

    def names(self, folder: str) -> list[str]:
        """Names in a folder; none if it is not there.

        Raises:
            CorruptArtifact: a link stands in its place, or on the way to it.
        """

    def names_below(self, folder: str) -> dict[str, list[str]]:
        """Names in every folder of a folder, without those that are links; in a bucket by one request."""

    def files(self, folder: str) -> dict[str, int]:
        """Sizes of all files below a folder, by their paths from there.

        Raises:
            FileNotFoundError: there is no such folder.
            CorruptArtifact: something there is neither a file nor a folder that holds one.
        """

    def read(self, path: str, *, limit_bytes: int) -> bytes:
        """The bytes of a file.

        Raises:
            FileNotFoundError: there is none.
            CorruptArtifact: it is longer than the limit, or a link is on the way to it.
        """

    def create(self, path: str, data: bytes) -> None:
        """Create a file with all of its content at once; no two people ever succeed.

        Raises:
            FileExistsError: somebody else created it first.
        """

    def remove(self, path: str) -> None:
        """Remove a file that may be there."""

    def versions(self, model: str) -> list[int]:
        """Numbers of a model's complete versions, ascending."""

    def publish(self, model: str, files: Mapping[str, bytes], seal: Seal) -> int:
        """Add a version: all of it at once, or nothing. Returns its number."""

    def remove_version(self, model: str, version: int) -> None:
        """Remove a version, so that nobody ever sees half of it."""

    def remove_leftovers(self, model: str, *, before: float) -> list[str]:
        """Remove what killed publishers left before a moment (seconds since 1970); returns what."""
