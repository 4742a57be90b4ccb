"""A store in a folder: killed publishers, full disks, and publishers of earlier releases beside it."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from scoreline_artifacts import (
    ArtifactError,
    CorruptArtifact,
    KeyRing,
    Store,
    StoreUnreachable,
    UntrustedArtifact,
)
from scoreline_artifacts.manifest import MANIFEST, SIGNATURE, Manifest
from scoreline_artifacts.store import releases, retention
from scoreline_artifacts.store.signing import Purpose
from tests.support.stores import Killed, kill, manifest_of

FILES = {"pipeline.dill": b"pipeline", "golden.jsonl": b"", "sources/churn/features.py": b"x = 1"}
PUBLISHED = Path(__file__).resolve().parents[3] / "artifacts"
CHANGES = ("link", "replace", "mkdir", "open", "fsync", "fchmod", "unlink", "rmdir", "remove")
"""Functions of `os` by which a publisher changes a folder."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store in which version 1 of the model pima is published."""
    store = Store(tmp_path / "store")
    _publish(store)
    return store


@pytest.fixture
def earlier(tmp_path: Path) -> Store:
    """A store as an earlier release of Scoreline wrote it: model loans, of three versions."""
    shutil.copytree(PUBLISHED / "format-2" / "store", tmp_path / "store")
    ring = KeyRing(tmp_path / "keys")
    ring.trust((PUBLISHED / "format-2" / "publisher.pem").read_bytes())
    return Store(tmp_path / "store", ring)


def _publish(store: Store) -> int:
    return store.publish(manifest_of(FILES, 1), FILES).version


def _publish_as_before(store: Store) -> int:
    """Publish as earlier releases of Scoreline do: by one rename of a complete directory."""
    root = Path(store.root)
    staging, versions = root / ".staging", root / "pima" / "versions"
    for folder in (staging, versions):
        folder.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(dir=staging))
    for name, data in FILES.items():
        (staged / name).parent.mkdir(parents=True, exist_ok=True)
        (staged / name).write_bytes(data)
    while True:
        listed = [int(path.name) for path in versions.iterdir() if path.name.isdecimal()]
        number = max(listed, default=0) + 1
        manifest = manifest_of(FILES, number).encode()
        (staged / MANIFEST).write_bytes(manifest)
        (staged / SIGNATURE).write_bytes(store.ring.sign(Purpose.ARTIFACT, manifest))
        try:
            staged.rename(versions / str(number))
        except OSError:
            continue
        return number


def _assert_complete(store: Store, refused: Collection[int] = ()) -> None:
    """Every version that is listed can be read, but for those that an earlier release added later, which name no store."""
    for number in store.versions("pima"):
        if number in refused:
            with pytest.raises(UntrustedArtifact, match="must be published or promoted again"):
                store.manifest("pima", number)
        else:
            assert store.read_all(store.manifest("pima", number)) == FILES


def _interrupt(patch: pytest.MonkeyPatch, step: int, act: Callable[[int], None]) -> list[str]:
    """Call `act(n)` in the place of every change from a step on, n = 0 first; returns the changes.

    At every later change too: the dead do not tidy up.
    """
    changes: list[str] = []

    def interrupted(name: str) -> Callable[..., object]:
        real = getattr(os, name)

        def change(*arguments: object, **options: object) -> object:
            changes.append(name)
            if len(changes) > step:
                act(len(changes) - step - 1)
            return real(*arguments, **options)

        return change

    for name in CHANGES:
        patch.setattr(os, name, interrupted(name))
    return changes


def _fill_disk(count: int) -> None:
    if count == 0:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_publisher_killed_at_any_change_leaves_a_complete_version_or_none(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed_after = []
    for step in itertools.count():
        before = store.versions("pima")
        with monkeypatch.context() as patch:
            changes = _interrupt(patch, step, kill)
            try:
                _publish(store)
            except Killed:
                pass
            else:
                break
        listed_after.append(len(store.versions("pima")) - len(before))
        _assert_complete(store)
    assert changes.count("link") == 3
    assert sorted(listed_after) == listed_after
    # Only clearing up is left once the signature has its name.
    assert 0 < sum(listed_after) < 10 < len(listed_after)


def test_a_disk_that_is_full_at_any_change_publishes_nothing_and_is_no_obstacle_later(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = 0
    for step in itertools.count():
        before = store.versions("pima")
        with monkeypatch.context() as patch:
            changes = _interrupt(patch, step, _fill_disk)
            try:
                _publish(store)
            except StoreUnreachable:
                refused += 1
                assert store.versions("pima") == before
        _assert_complete(store)
        if len(changes) <= step:
            break
    assert refused > 10
    assert retention.prune(store, "pima", keep=1).leftovers == []


def test_a_folder_that_is_read_only_is_told_as_that_and_can_be_read(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    real = os.open
    for name in ("mkdir", "link", "replace", "unlink", "remove"):
        monkeypatch.setattr(os, name, refuse)
    monkeypatch.setattr(
        os,
        "open",
        lambda path, flags, *mode, **options: (
            refuse(path) if flags & os.O_CREAT else real(path, flags, *mode, **options)
        ),
    )
    for change in (
        lambda: _publish(store),
        lambda: releases.promote(store, "pima", 1),
        lambda: retention.pin(store, "pima", 1),
        lambda: store.storage.remove_version("pima", 1),
    ):
        with pytest.raises(StoreUnreachable, match="rights of this user on the folder"):
            change()
    assert store.versions("pima") == [1]
    _assert_complete(store)


def test_publishers_of_this_and_of_an_earlier_release_do_not_disturb_each_other(
    store: Store,
) -> None:
    published: list[int] = []
    earlier: list[int] = []
    start = threading.Barrier(6)

    def work(publish: Callable[[Store], int]) -> None:
        start.wait()
        numbers = [publish(store) for _ in range(8)]
        published.extend(numbers)
        earlier.extend(numbers if publish is _publish_as_before else ())

    threads = [
        threading.Thread(target=work, args=(publish,))
        for publish in (_publish, _publish_as_before) * 3
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(published) == sorted(set(published))
    assert store.versions("pima") == [1, *sorted(published)]
    _assert_complete(store, earlier)


def test_a_number_that_an_earlier_release_takes_at_any_moment_is_left_to_it(tmp_path: Path) -> None:
    """Its rename replaces a directory that is still empty."""
    numbers = []
    for step in itertools.count():
        store = Store(tmp_path / f"{step}")
        versions = Path(store.root) / "pima" / "versions"
        _publish(store)
        shutil.copytree(versions / "1", tmp_path / f"{step}-staged")

        def rename(
            count: int, source: Path = tmp_path / f"{step}-staged", target: Path = versions / "2"
        ) -> None:
            if count == 0:
                # What already has a manifest is not replaced.
                with suppress(OSError):
                    source.rename(target)

        with pytest.MonkeyPatch.context() as patch:
            changes = _interrupt(patch, step, rename)
            numbers.append(_publish(store))
        if len(changes) <= step:
            break
        assert store.read_all(store.manifest("pima", numbers[-1])) == FILES
        assert store.storage.names("pima/versions/2") == store.storage.names("pima/versions/1")
    assert numbers == sorted(numbers, reverse=True)
    assert {*numbers} == {2, 3}


def test_an_earlier_release_takes_no_number_that_is_being_published(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = store.storage.write

    def be_overtaken(files: dict[str, bytes]) -> None:
        assert _publish_as_before(store) == 3
        write(files)

    monkeypatch.setattr(store.storage, "write", be_overtaken)
    assert _publish(store) == 2
    assert store.versions("pima") == [1, 2, 3]
    _assert_complete(store, [3])


def test_what_an_earlier_release_published_is_listed_verified_and_read(earlier: Store) -> None:
    assert (earlier.models(), earlier.versions("loans")) == (["loans"], [1, 2, 3])
    assert retention.pins(earlier, "loans") == [3]
    for number in (1, 2, 3):
        manifest = earlier.manifest("loans", number)
        assert earlier.read_all(manifest)["pipeline.dill"] == b"pipeline %d" % number


def test_the_signed_bytes_of_an_earlier_release_are_written_again_to_the_byte(
    earlier: Store,
) -> None:
    data = (earlier.path("loans", 1) / MANIFEST).read_bytes()
    assert Manifest.decode(data).encode() == data
    log = releases.history(earlier, "loans")
    entry = (Path(earlier.root) / "loans/releases/production/00000003.json").read_bytes()
    assert entry.startswith(log[-1].encode() + b"\n")


def test_what_an_earlier_release_published_is_promoted_and_pruned(earlier: Store) -> None:
    log = releases.history(earlier, "loans")
    assert [(one.kind, one.version) for one in log] == [
        ("promote", 1), ("promote", 2), ("rollback", 1),
    ]  # fmt: skip
    earlier.ring.generate()
    release = releases.promote(earlier, "loans", 3)
    assert (release.sequence, release.log) == (4, log[0].log)
    assert releases.rollback(earlier, "loans").version == 1
    number = earlier.publish(manifest_of(FILES, 1, "loans"), FILES).version
    assert number == 4
    retention.unpin(earlier, "loans", 3)
    later = datetime.fromisoformat(log[-1].created_at) + timedelta(days=30)
    assert retention.prune(earlier, "loans", keep=1, now=later).removed == [3]
    assert earlier.versions("loans") == [1, 2, 4]


def test_versions_of_format_1_are_listed_and_kept_and_never_read(tmp_path: Path) -> None:
    shutil.copytree(PUBLISHED / "format-1", tmp_path / "store")
    store = Store(tmp_path / "store")
    assert (store.models(), store.versions("loans")) == (["loans"], [1])
    assert store.storage.remove_leftovers("loans", before=2**40) == []
    with pytest.raises(UntrustedArtifact):
        store.manifest("loans", 1)
    retention.pin(store, "loans", 1)
    assert retention.pins(store, "loans") == [1]


def test_a_version_that_lost_its_signature_is_not_listed_and_never_read(store: Store) -> None:
    (store.path("pima", 1) / SIGNATURE).unlink()
    assert store.versions("pima") == []
    with pytest.raises(UntrustedArtifact):
        store.manifest("pima", 1)


@pytest.mark.parametrize("name", [MANIFEST, SIGNATURE])
def test_a_pipe_in_the_place_of_what_is_read_first_keeps_nobody_waiting(
    store: Store, name: str
) -> None:
    path = store.path("pima", 1) / name
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(CorruptArtifact):
        store.manifest("pima", 1)


def test_a_pipe_in_the_place_of_a_release_keeps_nobody_waiting(store: Store) -> None:
    releases.promote(store, "pima", 1)
    os.mkfifo(Path(store.root) / "pima/releases/production/00000002.json")
    with pytest.raises(CorruptArtifact, match="not a regular file"):
        releases.current(store, "pima")


def test_nothing_is_written_or_removed_through_a_link(store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "2").touch()
    numbers = Path(store.root) / "pima" / "numbers"
    shutil.rmtree(numbers)
    numbers.symlink_to(outside)
    for change in (
        lambda: _publish(store),
        lambda: store.storage.remove("pima/numbers/2"),
        lambda: store.storage.remove_folder("pima/numbers"),
    ):
        with pytest.raises(CorruptArtifact, match="it is a link, or behind one"):
            change()
    assert [path.name for path in outside.iterdir()] == ["2"]


def test_a_copy_of_a_version_that_is_still_being_made_is_not_taken_for_a_leftover(
    store: Store,
) -> None:
    copied = Path(store.root) / "pima" / "versions" / "7"
    copied.mkdir()
    (copied / "pipeline.dill").write_bytes(b"half")
    assert retention.prune(store, "pima").leftovers == []
    later = datetime.now(UTC) + timedelta(days=2)
    assert retention.prune(store, "pima", now=later).leftovers == ["pima/versions/7"]


def test_temporary_files_behind_a_link_are_left_alone(store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine").touch()
    staging = Path(store.root) / ".staging"
    staging.rmdir()
    staging.symlink_to(outside)
    later = datetime.now(UTC) + timedelta(days=2)
    assert retention.prune(store, "pima", now=later).leftovers == []
    assert (outside / "mine").exists()


def test_a_link_that_is_put_there_at_the_last_moment_is_not_followed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    (outside / "mine").mkdir(parents=True)
    (outside / "mine" / "thesis.txt").touch()
    staging = Path(store.root) / ".staging"
    (staging / "mine").mkdir()
    at = store.storage._at

    def swap(path: str) -> str:
        checked = at(path)
        if path == ".staging/mine":
            shutil.rmtree(staging)
            staging.symlink_to(outside)
        return checked

    monkeypatch.setattr(store.storage, "_at", swap)
    later = datetime.now(UTC) + timedelta(days=2)
    with suppress(ArtifactError):
        retention.prune(store, "pima", now=later)
    assert staging.is_symlink()
    assert (outside / "mine" / "thesis.txt").exists()


def test_the_root_may_be_a_link(store: Store, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "store")
    linked = Store(tmp_path / "link")
    assert _publish(linked) == 2
    assert store.versions("pima") == linked.versions("pima") == [1, 2]
    _assert_complete(linked)


def test_a_manifest_with_a_field_that_is_not_known_is_refused(store: Store) -> None:
    manifest = store.manifest("pima", 1).encode()
    with pytest.raises(CorruptArtifact, match="unknown fields more"):
        Manifest.decode(manifest[:-1] + b',"more":1}')


@pytest.mark.parametrize("name", ["pima/releases", "pima/numbers", ".staging"])
def test_nothing_is_created_through_a_link_that_is_put_there_after_the_look(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    folder = Path(store.root) / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.symlink_to(outside)
    # The look finds no link yet.
    monkeypatch.setattr(type(store.storage), "_at", lambda storage, path: f"{storage.root}/{path}")
    with pytest.raises(CorruptArtifact, match="it is a link, or behind one"):
        store.storage.create(f"{name}/new.json", b"{}")
    with pytest.raises(CorruptArtifact, match="it is a link, or behind one"):
        store.storage.write({f"{name}/new.json": b"{}"})
    assert list(outside.iterdir()) == []
