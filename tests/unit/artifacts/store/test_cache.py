"""The cache of fetched files: verified, bounded, shared by processes, and never in the way."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from scoreline_artifacts.store.cache import FileCache
from scoreline_artifacts.store.store import describe_file

DATA = b"a pipeline"
ENTRY = describe_file(DATA)


class Bucket:
    """Counts how often something is fetched."""

    def __init__(self, data: bytes = DATA) -> None:
        self.data = data
        self.fetched = 0

    def __call__(self) -> bytes:
        self.fetched += 1
        return self.data


@pytest.fixture
def cache(tmp_path: Path) -> FileCache:
    return FileCache(tmp_path / "cache")


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


def _files(cache: FileCache) -> list[Path]:
    return [path for path in (cache.folder / "files").rglob("*") if path.is_file()]


def test_a_file_is_fetched_once(cache: FileCache, bucket: Bucket) -> None:
    assert [cache.fetch(ENTRY, bucket) for _ in range(3)] == [DATA] * 3
    assert bucket.fetched == 1


@pytest.mark.parametrize("damaged", [b"a pipelinE", b"a pipe", b"", DATA + b"!"])
def test_a_damaged_file_is_fetched_again(
    cache: FileCache, bucket: Bucket, damaged: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    cache.fetch(ENTRY, bucket)
    _files(cache)[0].write_bytes(damaged)
    assert cache.fetch(ENTRY, bucket) == DATA
    assert bucket.fetched == 2
    assert "cached_file_damaged" in caplog.text
    assert _files(cache)[0].read_bytes() == DATA


def test_a_file_of_0_bytes_is_kept_too(cache: FileCache) -> None:
    empty = Bucket(b"")
    assert [cache.fetch(describe_file(b""), empty) for _ in range(2)] == [b"", b""]
    assert empty.fetched == 1


def test_what_cannot_be_fetched_is_not_kept(cache: FileCache, bucket: Bucket) -> None:
    def fail() -> bytes:
        raise RuntimeError("no network")

    with pytest.raises(RuntimeError, match="no network"):
        cache.fetch(ENTRY, fail)
    assert _files(cache) == []
    assert cache.fetch(ENTRY, bucket) == DATA


def test_threads_that_want_one_file_at_once_fetch_it_once(cache: FileCache, bucket: Bucket) -> None:
    start = threading.Barrier(8)
    found: list[bytes] = []

    def work() -> None:
        start.wait()
        found.append(cache.fetch(ENTRY, bucket))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (found, bucket.fetched) == ([DATA] * 8, 1)


def test_what_was_not_used_for_the_longest_time_goes_first(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, limit_bytes=30)
    files = [Bucket(b"%010d" % number) for number in range(4)]
    for age, one in zip((300, 200, 100), files, strict=False):
        cache.fetch(describe_file(one.data), one)
        path = next(path for path in _files(cache) if path.read_bytes() == one.data)
        moment = path.stat().st_mtime - age
        os.utime(path, (moment, moment))
    cache.fetch(describe_file(files[0].data), files[0])  # used again
    cache.fetch(describe_file(files[3].data), files[3])
    kept = sorted(path.read_bytes() for path in _files(cache))
    assert kept == [files[0].data, files[2].data, files[3].data]


def test_a_file_that_is_larger_than_the_cache_is_not_kept(tmp_path: Path, bucket: Bucket) -> None:
    cache = FileCache(tmp_path, limit_bytes=5)
    assert cache.fetch(ENTRY, bucket) == DATA
    assert _files(cache) == []


def test_a_folder_that_cannot_be_used_costs_only_time(
    tmp_path: Path, bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    cache = FileCache(tmp_path / "file" / "cache")
    assert [cache.fetch(ENTRY, bucket) for _ in range(2)] == [DATA, DATA]
    assert "cache_unusable" in caplog.text


def test_others_cannot_read_what_is_kept(cache: FileCache, bucket: Bucket) -> None:
    cache.fetch(ENTRY, bucket)
    assert [path.stat().st_mode & 0o077 for path in _files(cache)] == [0]


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"SCORELINE_CACHE": "/a"}, "/a"),
        ({"SCORELINE_CACHE": "", "XDG_CACHE_HOME": "/b"}, "/b/scoreline"),
        ({"SCORELINE_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/c"}, "/c/.cache/scoreline"),
    ],
)
def test_the_environment_names_the_folder(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], folder: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert FileCache.from_environment().folder == Path(folder)
