"""gzip and zstd, in by their first bytes and out by the output's name."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Callable
from types import ModuleType
from typing import IO, Any

from scoreline_client.codes import Code
from scoreline_client.errors import FileRefused, MissingDependency

_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_OTHERS = {
    b"PK\x03\x04": "a zip archive",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ": "compressed with xz",
    b"\xd0\xcf\x11\xe0": "a file of an old office program",
}
_SUFFIXES = {".gz": "gzip", ".zst": "zstd"}
MOST_OUT_OF_ONE = 200
"""Bytes that one compressed byte may become; real tables stay below 50."""
WATCHED_FROM_BYTES = 64 << 20
"""A small file may be as repetitive as it likes."""


def compression_of(start: bytes) -> str | None:
    """What a file's first bytes say."""
    return next((name for magic, name in _MAGIC.items() if start.startswith(magic)), None)


def check_readable(path: str, start: bytes) -> None:
    """Refuse archives and compressions that nobody here reads.

    Raises:
        FileRefused: it is one; the message names it.
    """
    for magic, name in _OTHERS.items():
        if start.startswith(magic):
            message = f"the file is {name}; only gzip and zstd are read: unpack it first"
            raise FileRefused(Code.FILE, path, message)


def compression_by_name(name: str) -> tuple[str | None, str]:
    """The compression that a file's name asks for, and the name without it."""
    for suffix, kind in _SUFFIXES.items():
        if name.lower().endswith(suffix):
            return kind, name[: -len(suffix)]
    return None, name


class Decompressed:
    """A compressed file as its plain bytes; refuses what is cut short, damaged, or a bomb."""

    def __init__(self, path: str, kind: str, raw: Any) -> None:
        self._path = path
        self._kind = kind
        self._raw = raw
        self._plain = 0
        # zstd's own error is derived from Exception alone.
        self._damage: tuple[type[Exception], ...] = (OSError, zlib.error, *_zstd_errors(kind))
        self._file: IO[bytes] = (
            gzip.GzipFile(fileobj=raw, mode="rb")  # type: ignore[assignment]
            if kind == "gzip"
            else _zstd().ZstdFile(raw, "rb")
        )

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end.

        Raises:
            FileRefused: the file ends in the middle, is damaged, or grows beyond all measure.
        """
        try:
            data = self._file.read(size)
        except EOFError as error:
            raise self._refused("ends in the middle: it was not copied or written whole") from error
        except self._damage as error:
            raise self._refused(f"is damaged ({error})") from error
        self._plain += len(data)
        self._check_ratio()
        return data

    def _check_ratio(self) -> None:
        if self._plain > max(WATCHED_FROM_BYTES, MOST_OUT_OF_ONE * self._raw.position):
            message = (
                f"{self._raw.position:,} compressed bytes became {self._plain:,} so far: more than "
                f"{MOST_OUT_OF_ONE} times as many. If that is as it should be, unpack it first"
            )
            raise FileRefused(Code.TOO_LARGE, self._path, message)

    def _refused(self, what: str) -> FileRefused:
        message = f"the {self._kind} data {what}; {self._plain:,} bytes could be unpacked"
        return FileRefused(Code.FILE, self._path, message)


def compressor(kind: str | None) -> Callable[[bytes], bytes] | None:
    """What makes a block of bytes a whole member of a compressed file, the same at every time."""
    if kind is None:
        return None
    if kind == "gzip":
        return lambda data: gzip.compress(data, compresslevel=6, mtime=0)
    compress: Callable[[bytes], bytes] = _zstd().compress
    return compress


def _zstd_errors(kind: str) -> tuple[type[Exception], ...]:
    if kind != "zstd":
        return ()
    error: type[Exception] = _zstd().ZstdError
    return (error,)


def _zstd() -> ModuleType:
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError as error:
        raise MissingDependency("a file compressed with zstd", "backports.zstd", "files") from error
    return zstd
