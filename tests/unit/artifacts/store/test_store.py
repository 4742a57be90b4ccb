"""The store: versions appear whole or not at all, and only verified bytes leave it."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from scoreline_artifacts import (
    CorruptArtifact,
    InvalidName,
    Manifest,
    Store,
    UnknownModelError,
    UnknownVersionError,
    UnsuitableStore,
    UntrustedArtifact,
    UnusableKey,
)
from scoreline_artifacts.store import releases
from scoreline_artifacts.store.store import describe_file
from tests.support.stores import manifest_of, rewrite_manifest

FILES = {
    "pipeline.dill": b"pipeline",
    "golden.jsonl": b"golden",
    "sources/churn/__init__.py": b"",
    "sources/churn/features.py": b"def is_adult(age): return age >= 18",
}
OLD = Path(__file__).resolve().parents[3] / "artifacts"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def _publish(store: Store, model: str = "pima") -> Manifest:
    return store.publish(manifest_of(FILES, 1, model), FILES)


def test_versions_count_up_from_one(store: Store) -> None:
    assert [_publish(store).version for _ in range(3)] == [1, 2, 3]
    assert store.versions("pima") == [1, 2, 3]


def test_models_are_listed_by_name(store: Store) -> None:
    _publish(store, "zebra")
    _publish(store, "ant")
    assert store.models() == ["ant", "zebra"]


def test_a_store_that_does_not_exist_yet_is_empty(tmp_path: Path) -> None:
    assert Store(tmp_path / "later").models() == []


def test_what_was_published_is_read_back(store: Store) -> None:
    manifest = _publish(store)
    assert store.manifest("pima", 1) == manifest
    assert {name: store.read(manifest, name) for name in FILES} == FILES


def test_concurrent_publishers_get_different_versions(store: Store) -> None:
    found: list[int] = []
    start = threading.Barrier(8)

    def work() -> None:
        start.wait()
        found.extend(_publish(store).version for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(1, 41))
    assert store.versions("pima") == list(range(1, 41))


def test_a_publisher_that_fails_leaves_nothing(store: Store) -> None:
    store.ring.revoke(store.ring.generate()[0])
    with pytest.raises(UnusableKey):
        _publish(store)
    assert store.versions("pima") == []
    assert store.storage.names("pima/versions") == []
    assert store.storage.names(".staging") == []


def test_what_a_killed_publisher_left_is_no_version(store: Store) -> None:
    left = store.root / ".staging" / "killed"
    left.mkdir(parents=True)
    (left / "pipeline.dill").write_bytes(b"half")
    assert _publish(store).version == 1
    assert store.models() == ["pima"]


def test_a_model_without_a_version_is_no_model(store: Store) -> None:
    (store.root / "pima" / "versions").mkdir(parents=True)
    assert store.models() == []


@pytest.mark.parametrize("stray", ["01", "1.bak", ".DS_Store", "٣"])
def test_a_stray_file_is_no_version(store: Store, stray: str) -> None:
    _publish(store)
    (store.root / "pima" / "versions" / stray).touch()
    assert store.versions("pima") == [1]


def test_a_version_that_is_a_link_is_refused(store: Store, tmp_path: Path) -> None:
    manifest = _publish(store)
    place = store.path("pima", 1)
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CorruptArtifact, match="it is a link"):
        store.manifest("pima", 1)
    with pytest.raises(CorruptArtifact, match="it is a link"):
        store.read(manifest, "pipeline.dill")


def test_a_version_is_published_though_its_directory_cannot_be_synced(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, refused = os.fsync, []

    def fail(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            refused.append(descriptor)
            raise OSError(errno.EINVAL, "no")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    assert _publish(store).version == 1
    assert refused


def test_an_unknown_model_is_refused_with_those_there_are(store: Store) -> None:
    _publish(store)
    with pytest.raises(UnknownModelError, match=r"no model 'pim'.*models there: pima"):
        store.manifest("pim", 1)


def test_an_unknown_version_is_refused_with_those_there_are(store: Store) -> None:
    _publish(store)
    with pytest.raises(UnknownVersionError, match="no version 2; versions there: 1"):
        store.manifest("pima", 2)


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "Pima", "pima\n", "x" * 65])
def test_a_name_that_could_leave_the_store_is_refused(store: Store, name: str) -> None:
    with pytest.raises(InvalidName):
        store.path(name, 1)


@pytest.mark.parametrize("data", [b"pipelinE", b"pipelin", b"pipeline!", b""])
def test_changed_bytes_are_refused(store: Store, data: bytes) -> None:
    manifest = _publish(store)
    (store.path("pima", 1) / "pipeline.dill").write_bytes(data)
    with pytest.raises(CorruptArtifact, match=r"pipeline\.dill"):
        store.read(manifest, "pipeline.dill")


def test_a_missing_file_is_refused(store: Store) -> None:
    manifest = _publish(store)
    (store.path("pima", 1) / "golden.jsonl").unlink()
    with pytest.raises(CorruptArtifact, match="cannot be read"):
        store.read(manifest, "golden.jsonl")


def test_a_link_is_not_followed_even_to_the_right_bytes(store: Store, tmp_path: Path) -> None:
    manifest = _publish(store)
    file = store.path("pima", 1) / "pipeline.dill"
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CorruptArtifact, match="it is a link"):
        store.read(manifest, "pipeline.dill")


def test_a_file_that_the_manifest_does_not_list_is_refused(store: Store) -> None:
    manifest = _publish(store)
    (store.path("pima", 1) / "extra").write_bytes(b"?")
    with pytest.raises(CorruptArtifact, match="does not list"):
        store.read(manifest, "extra")


def test_another_versions_manifest_is_refused(store: Store) -> None:
    _publish(store)
    store.path("pima", 1).rename(store.root / "pima" / "versions" / "7")
    with pytest.raises(CorruptArtifact, match="about pima@1"):
        store.manifest("pima", 7)


def test_another_models_artifact_is_refused(store: Store) -> None:
    _publish(store)
    (store.root / "pima").rename(store.root / "other")
    with pytest.raises(CorruptArtifact, match="about pima@1"):
        store.manifest("other", 1)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format_version": 2}'])
def test_a_broken_manifest_is_refused_though_it_is_signed(store: Store, text: str) -> None:
    _publish(store)
    rewrite_manifest(store, "pima", 1, text.encode())
    with pytest.raises(CorruptArtifact, match=r"manifest\.json"):
        store.manifest("pima", 1)


def test_a_newer_format_is_refused_by_its_number(store: Store) -> None:
    _publish(store)
    rewrite_manifest(store, "pima", 1, b'{"format_version": 99}')
    with pytest.raises(CorruptArtifact, match="format 99 is not known"):
        store.manifest("pima", 1)


def test_an_artifact_of_format_1_is_refused_and_the_message_says_what_to_do() -> None:
    with pytest.raises(UntrustedArtifact, match=r"a Scoreline that did not sign.*publish it again"):
        Store(OLD / "format-1").manifest("loans", 1)


def test_a_release_of_format_1_is_refused() -> None:
    with pytest.raises(UntrustedArtifact, match="it is not signed"):
        releases.current(Store(OLD / "format-1"), "loans")


def test_the_environment_names_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORELINE_ARTIFACTS", str(tmp_path / "there"))
    assert Store.from_environment().root == tmp_path / "there"


@pytest.mark.parametrize(
    "name",
    ["", "/a", "a//b", "a/", "../a", "a/../b", "./a", "a\\b", "a\nb", "a\0", "x" * 256, "a/" * 501],
)
def test_a_file_name_that_could_leave_the_artifact_is_refused(store: Store, name: str) -> None:
    with pytest.raises(InvalidName):
        store.publish(manifest_of({name: b""}, 1), {name: b""})
    assert store.storage.names("") == []


def test_a_listed_name_that_could_leave_the_artifact_is_refused(store: Store) -> None:
    manifest = _publish(store)
    secret = store.root / "pima" / "versions" / "secret"
    secret.write_bytes(b"!")
    listed = replace(manifest, files={**manifest.files, "../secret": describe_file(b"!")})
    rewrite_manifest(store, "pima", 1, listed.encode())
    with pytest.raises(CorruptArtifact, match="lists a file that cannot be"):
        store.manifest("pima", 1)
    with pytest.raises(CorruptArtifact, match="lists a file that cannot be"):
        store.read(listed, "../secret")


def test_a_manifest_must_list_what_is_published(store: Store) -> None:
    with pytest.raises(ValueError, match="must list the files"):
        store.publish(manifest_of({}, 1), FILES)
    assert store.versions("pima") == []


def test_a_pipe_in_the_place_of_a_file_is_refused_without_waiting(store: Store) -> None:
    manifest = _publish(store)
    file = store.path("pima", 1) / "pipeline.dill"
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(CorruptArtifact, match="not a regular file"):
        store.read(manifest, "pipeline.dill")
    with pytest.raises(CorruptArtifact, match="not a regular file"):
        store.manifest("pima", 1)


def test_a_folder_may_be_given_as_text_or_as_a_file_url(tmp_path: Path) -> None:
    assert Store(str(tmp_path)).root == Store(f"file://{tmp_path}").root == tmp_path


def test_a_url_given_as_a_path_is_refused_for_it_has_lost_a_slash() -> None:
    with pytest.raises(UnsuitableStore, match="given as text"):
        Store(Path("s3://bucket/models"))


def test_an_unknown_protocol_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(
        UnsuitableStore, match=r"ftp:// is not known.*a folder, or one of memory, s3"
    ):
        Store("ftp://host/models").models()


def test_the_key_that_signed_is_told(store: Store) -> None:
    manifest = _publish(store)
    verified = store.verified("pima", 1)
    assert (verified.manifest, verified.key) == (manifest, store.ring.own_fingerprint())


KILLED = """
import sys, time
from pathlib import Path
from scoreline_artifacts import KeyRing, Store
from tests.unit.artifacts.store.test_store import FILES, manifest_of

sign = KeyRing.sign

def hang(ring, purpose, data):
    if purpose == "store":
        return sign(ring, purpose, data)
    print("claimed", flush=True)
    time.sleep(600)

KeyRing.sign = hang
Store(Path(sys.argv[1])).publish(manifest_of(FILES, 1), FILES)
"""


def test_a_publisher_killed_half_way_leaves_no_version(store: Store) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(store.root)], stdout=subprocess.PIPE
    ) as publisher:
        assert publisher.stdout is not None
        assert publisher.stdout.readline() == b"claimed\n"
        publisher.kill()
    assert store.versions("pima") == []
    assert _publish(store).version == 2


def test_no_flipped_bit_and_no_truncation_gets_through(store: Store) -> None:
    manifest = _publish(store)
    file = store.path("pima", 1) / "pipeline.dill"
    data = file.read_bytes()
    flipped = [
        data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
        for at in range(len(data))
        for bit in range(8)
    ]
    got_through = []
    for changed in [*flipped, *(data[:end] for end in range(len(data)))]:
        file.write_bytes(changed)
        with contextlib.suppress(CorruptArtifact):
            got_through.append(store.read(manifest, "pipeline.dill"))
    assert got_through == []
