"""Sizes that bound memory and cut files: chunks, blocks of output, row groups."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSizes:
    """Sizes of one file's run. A run that is resumed must have those of the run that began."""

    smallest_chunk_bytes: int = 1 << 14
    largest_chunk_bytes: int = 1 << 20
    least_chunks: int = 8
    """A file is cut into so many chunks, if it is not very small, so that processes share it."""
    slow_chunk_ms: float = 250.0
    slow_chunks: int = 3
    """Online requests wait for the chunk that a process is scoring: after so many slow ones in a row,
    chunks become smaller."""
    fewest_chunk_rows: int = 256
    most_chunk_rows: int = 50_000
    """Rows of a chunk of JSON Lines or Parquet; workers take at most 100,000 in a request."""
    block_bytes: int = 1 << 20
    """Compressed output consists of blocks of so many plain bytes, each readable without the others, so
    that it does not depend on where a run was interrupted."""
    sync_bytes: int = 1 << 24
    """After so many more bytes an output is brought to the disk."""
    group_rows: int = 100_000
    group_bytes: int = 32 << 20
    """A row group of Parquet output is closed when it has so many rows, or so many bytes in memory."""
    most_expansion: int = 200
    """Plain bytes that a compressed byte may become; real tables stay below 50."""
    unwatched_bytes: int = 64 << 20
    """Plain bytes up to which a file may expand as much as it likes."""


DEFAULT_SIZES = FileSizes()
