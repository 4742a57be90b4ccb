"""A store in a bucket: the same promises as in a folder, without a rename."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from scoreline_artifacts import (
    CorruptArtifact,
    KeyRing,
    Store,
    StoreUnreachable,
    UnknownModelError,
    UnknownVersionError,
    UntrustedArtifact,
)
from scoreline_artifacts.store import releases, retention
from scoreline_artifacts.store.marks import LogMarks
from tests.support.stores import Killed, kill, manifest_of

pytestmark = pytest.mark.integration

FILES = {
    "pipeline.dill": b"pipeline",
    "golden.jsonl": b"golden",
    "sources/churn/__init__.py": b"",
}


def publish(store: Store, model: str = "pima") -> int:
    return store.publish(manifest_of(FILES, 1, model), FILES).version


@pytest.fixture
def store(s3_url: str) -> Store:
    """An empty store in the bucket."""
    return Store(s3_url)


def _write(store: Store, path: str, data: bytes) -> None:
    """As somebody does who can write to the bucket."""
    store.storage.write({path: data})


def test_what_was_published_is_read_back(store: Store) -> None:
    assert [publish(store), publish(store)] == [1, 2]
    manifest = store.manifest("pima", 1)
    assert manifest == replace(manifest_of(FILES, 1), store=store.known_as())
    assert {name: store.read(manifest, name) for name in FILES} == FILES
    assert (store.models(), store.versions("pima")) == (["pima"], [1, 2])
    assert store.location("pima", 2) == f"{store.root}/pima/versions/2"


def test_versions_do_not_get_mixed_up_by_their_first_digits(store: Store) -> None:
    assert [publish(store) for _ in range(11)] == list(range(1, 12))
    assert store.manifest("pima", 1).version == 1
    assert store.versions("pima") == list(range(1, 12))


def test_an_unknown_model_or_version_is_refused_with_those_there_are(store: Store) -> None:
    publish(store)
    with pytest.raises(UnknownVersionError, match="no version 2; versions there: 1"):
        store.manifest("pima", 2)
    with pytest.raises(UnknownModelError, match="models there: pima"):
        store.manifest("other", 1)


def test_releases_work_as_in_a_folder(store: Store) -> None:
    seen = LogMarks.from_environment()
    publish(store)
    publish(store)
    for version in (1, 2):
        releases.promote(store, "pima", version)
    assert releases.rollback(store, "pima").version == 1
    assert [one.version for one in releases.history(store, "pima")] == [1, 2, 1]
    newest = releases.newest(store, "pima", "production", seen=seen)
    assert newest is not None
    assert newest.sequence == 3


def test_a_file_that_somebody_adds_changes_or_removes_is_noticed(store: Store) -> None:
    publish(store)
    manifest = store.manifest("pima", 1)
    _write(store, "pima/versions/1/pipeline.dill", b"pipelinE")
    with pytest.raises(CorruptArtifact, match="not those that were published"):
        store.read(manifest, "pipeline.dill")
    _write(store, "pima/versions/1/pipeline.dill", b"pipeline and more")
    with pytest.raises(CorruptArtifact, match="has more than 8 bytes"):
        store.read(manifest, "pipeline.dill")
    _write(store, "pima/versions/1/pipeline.dill", b"")
    with pytest.raises(CorruptArtifact, match="not those that were published"):
        store.read(manifest, "pipeline.dill")
    store.storage.remove("pima/versions/1/pipeline.dill")
    with pytest.raises(CorruptArtifact, match=r"pipeline\.dill cannot be read"):
        store.manifest("pima", 1)
    _write(store, "pima/versions/1/sources/more.py", b"")
    with pytest.raises(CorruptArtifact, match=r"does not list sources/more\.py"):
        store.manifest("pima", 1)


@pytest.mark.parametrize("writes", range(3))
def test_a_publisher_killed_at_any_write_leaves_nothing_visible_and_uses_up_a_number(
    store: Store, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    """After the claim of a number: one write each for the manifest, the files, the signature."""
    storage: Any = store.storage
    store.make_identity()
    number = storage.claim_number("pima")
    left = [None] * writes

    def counted(real: Callable[..., None]) -> Callable[..., None]:
        def write(*arguments: object) -> None:
            if not left:
                raise Killed
            left.pop()
            real(*arguments)

        return write

    with monkeypatch.context() as patch:
        patch.setattr(storage, "claim_number", lambda *_, **__: number)
        patch.setattr(storage, "create", counted(storage.create))
        patch.setattr(storage, "write", counted(storage.write))
        # The dead do not tidy up.
        patch.setattr(storage, "remove_folder", lambda _: None)
        with pytest.raises(Killed):
            publish(store)
    assert (store.versions("pima"), store.models()) == ([], [])
    assert publish(store) == 2
    if writes:
        with pytest.raises(UntrustedArtifact, match="it is not signed"):
            store.manifest("pima", 1)


def test_a_publisher_that_fails_tidies_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KeyRing, "sign", kill)
    with pytest.raises(Killed):
        publish(store)
    assert store.storage.names("pima/versions") == []


PUBLISH = """
import sys
from scoreline_artifacts import Store
from tests.integration.test_object_store import publish
store = Store(sys.argv[1])
store.models()  # connected, before all begin at once
print("ready", flush=True)
sys.stdin.readline()
print(*[publish(store) for _ in range(3)])
"""

PROMOTE = """
import sys
from scoreline_artifacts import Store
from scoreline_artifacts.store import releases
store = Store(sys.argv[1])
store.models()
print("ready", flush=True)
sys.stdin.readline()
for version in range(1, 7):
    releases.promote(store, "pima", version)
print(0)
"""

HANGS = """
import sys
from scoreline_artifacts import KeyRing, Store
from tests.integration.test_object_store import publish

sign = KeyRing.sign

def hang(ring, purpose, data):
    if purpose == "store":
        return sign(ring, purpose, data)
    print("claimed", flush=True)
    sys.stdin.readline()

KeyRing.sign = hang
publish(Store(sys.argv[1]))
"""


def _start(code: str, store: Store) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, str(store.root)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)


def _together(code: str, store: Store, count: int) -> list[list[int]]:
    """What several processes print that begin at the same moment."""
    started = [_start(code, store) for _ in range(count)]
    assert [one.stdout.readline() for one in started if one.stdout] == ["ready\n"] * count
    for one in started:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    said = [one.communicate()[0] for one in started]
    assert [one.returncode for one in started] == [0] * count
    return [[int(number) for number in line.split()] for line in said]


def test_processes_that_publish_at_once_get_different_numbers(store: Store) -> None:
    numbers = _together(PUBLISH, store, 2)
    taken = sorted(number for one in numbers for number in one)
    assert len(set(taken)) == 6
    assert store.versions("pima") == taken
    assert [store.manifest("pima", number).version for number in taken] == taken


def test_processes_that_release_at_once_write_one_log_without_a_gap(store: Store) -> None:
    for _ in range(6):
        publish(store)
    _together(PROMOTE, store, 2)
    log = releases.history(store, "pima")
    assert [one.sequence for one in log] == list(range(1, len(log) + 1))
    assert {one.version for one in log} == set(range(1, 7))
    assert log[-1].version == 6


def test_a_publisher_that_is_killed_leaves_nothing_visible(store: Store) -> None:
    publisher = _start(HANGS, store)
    assert publisher.stdout is not None
    assert publisher.stdout.readline() == "claimed\n"
    publisher.send_signal(signal.SIGKILL)
    publisher.communicate()
    assert store.versions("pima") == []
    assert publish(store) == 2


def test_a_forked_child_of_a_process_that_used_the_store_uses_it_too(store: Store) -> None:
    publish(store)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, str(store.versions("pima")).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 100) == b"[1]"
    os.close(reading)
    os.close(writing)


def test_what_others_publish_is_seen_at_once(store: Store, s3_url: str) -> None:
    other = Store(s3_url)
    for number in (1, 2, 3):
        publish(other)
        releases.promote(other, "pima", number)
        assert store.versions("pima") == list(range(1, number + 1))
        release = releases.current(store, "pima")
        assert release is not None
        assert release.version == number


def _requests(store: Store) -> Counter[str]:
    """Counts the requests of a store from now on."""
    storage: Any = store.storage
    counted: Counter[str] = Counter()

    def count(model: Any, **_: Any) -> None:
        counted[model.name] += 1

    storage._system.s3.meta.events.register("before-call.s3", count)
    return counted


def test_a_look_at_the_logs_is_one_listing_and_one_for_each_model(store: Store) -> None:
    for model in ("ant", "bee"):
        for _ in range(3):
            releases.promote(store, model, publish(store, model))
        releases.promote(store, model, 1, "candidate")
    counted = _requests(store)
    heads = releases.heads(store)
    assert [(one.model, one.alias, one.sequence) for one in heads] == [
        ("ant", "candidate", 1),
        ("ant", "production", 3),
        ("bee", "candidate", 1),
        ("bee", "production", 3),
    ]
    assert counted == {"ListObjectsV2": 3}


def test_to_ask_for_what_is_not_there_costs_no_more_with_many_models(store: Store) -> None:
    publish(store, "ant")
    counted = _requests(store)

    def cost() -> int:
        counted.clear()
        with pytest.raises(UnknownModelError, match="models there: ant"):
            store.manifest("fox", 1)
        return counted.total()

    before = cost()
    for model in ("bee", "cow", "dog", "elk"):
        publish(store, model)
    assert cost() == before


def test_a_version_is_read_from_the_bucket_once_and_then_from_the_cache(store: Store) -> None:
    publish(store)
    manifest = store.manifest("pima", 1)
    counted = _requests(store)
    for _ in range(3):
        assert store.read(manifest, "pipeline.dill") == b"pipeline"
    assert counted == {"GetObject": 1}


def test_pruning_leaves_what_is_needed(store: Store) -> None:
    for _ in range(4):
        publish(store)
    releases.promote(store, "pima", 1)
    result = retention.prune(store, "pima", keep=1)
    assert (list(result.kept), result.removed) == ([1, 4], [2, 3])
    assert store.versions("pima") == [1, 4]
    assert sorted(store.storage.names("pima/versions")) == ["1", "4"]
    assert publish(store) == 5


def test_a_bucket_that_is_not_there_is_told_as_that(s3_url: str) -> None:
    missing = Store("s3://missing-bucket/models")
    with pytest.raises(StoreUnreachable, match="no such bucket"):
        publish(missing)
    with pytest.raises(StoreUnreachable, match="no such bucket"):
        missing.models()


def test_a_service_that_does_not_answer_is_told_as_that(
    s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(StoreUnreachable, match=r"cannot be used now.*credentials"):
        Store(s3_url).models()
