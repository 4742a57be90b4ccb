"""A bucket whose answers get lost, conflict, or are not what S3 promises."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from scoreline_artifacts import StoreUnreachable, UnsuitableStore
from scoreline_artifacts.store.storage import Storage


@pytest.fixture
def bucket(request: pytest.FixtureRequest) -> Iterator[Storage]:
    """An empty store in memory."""
    storage = Storage(f"memory://edge/{id(request)}")
    yield storage
    storage.remove_folder("")


def _answer(bucket: Storage, monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    """Let `answer(write, path, data, mode)` stand for the service's answer to a write."""
    write = bucket._system.pipe_file
    monkeypatch.setattr(
        bucket._system,
        "pipe_file",
        lambda path, data, mode="overwrite": answer(write, path, data, mode),
    )


def _error(code: str) -> OSError:
    """An error as s3fs translates it."""
    error = OSError(5, code)
    error.__cause__ = type("ClientError", (Exception,), {"response": {"Error": {"Code": code}}})()
    return error


def test_only_one_creation_of_a_file_succeeds(bucket: Storage) -> None:
    bucket.create("a/1.json", b"mine")
    with pytest.raises(FileExistsError):
        bucket.create("a/1.json", b"yours")
    assert bucket.read("a/1.json", limit_bytes=10) == b"mine"


def test_a_creation_whose_answer_got_lost_is_known_again(
    bucket: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(write: Any, path: str, data: bytes, mode: str) -> None:
        write(path, data, mode=mode)
        if mode == "create":  # the library tries again, and is told that the file exists
            raise FileExistsError(path)

    _answer(bucket, monkeypatch, lost)
    assert [bucket.claim_number("pima") for _ in range(2)] == [1, 2]


@pytest.mark.parametrize("code", ["PreconditionFailed", "ConditionalRequestConflict"])
def test_services_say_in_several_ways_that_a_file_exists(
    bucket: Storage, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    bucket.create("a/1.json", b"mine")

    def refuse(*_: Any) -> None:
        raise _error(code)

    _answer(bucket, monkeypatch, refuse)
    with pytest.raises(FileExistsError):
        bucket.create("a/1.json", b"yours")


def test_a_creation_that_conflicts_with_another_one_is_tried_again(
    bucket: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    conflicts = [_error("ConditionalRequestConflict")] * 3

    def sometimes(write: Any, path: str, data: bytes, mode: str) -> None:
        if conflicts:
            raise conflicts.pop()
        write(path, data, mode=mode)

    _answer(bucket, monkeypatch, sometimes)
    bucket.create("a/1.json", b"mine")
    assert bucket.read("a/1.json", limit_bytes=10) == b"mine"


def test_a_service_that_writes_over_what_exists_is_refused_before_it_does_harm(
    bucket: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def heedless(write: Any, path: str, data: bytes, mode: str) -> None:
        write(path, data)

    _answer(bucket, monkeypatch, heedless)
    with pytest.raises(UnsuitableStore, match=r"ignores `If-None-Match: \*`"):
        bucket.claim_number("pima")
    assert bucket.versions("pima") == []


def test_whatever_else_a_service_says_is_about_the_service(
    bucket: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("SlowDown")

    _answer(bucket, monkeypatch, fail)
    with pytest.raises(StoreUnreachable, match="RuntimeError: SlowDown"):
        bucket.create("a/1.json", b"mine")


def test_a_library_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", fail)
    with pytest.raises(
        UnsuitableStore, match=r"Install s3fs to access S3\. pip install 'scoreline\[s3\]'"
    ):
        Storage("s3://bucket/models").names("")


def test_every_process_connects_by_itself(bucket: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    before = bucket._system
    assert bucket._system is before
    monkeypatch.setattr("scoreline_artifacts.store.storage.os", SimpleNamespace(getpid=lambda: -1))
    assert bucket._system is not before
