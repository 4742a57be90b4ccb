"""Releases: an append-only log, read from its end."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from scoreline_artifacts import (
    InvalidName,
    Manifest,
    NothingToRollBack,
    Outputs,
    Schema,
    Store,
    UnknownAliasError,
    UnknownModelError,
    UnknownVersionError,
    releases,
)
from scoreline_artifacts.errors import CorruptArtifact


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with versions 1 to 4 of model pima."""
    store = Store(tmp_path)
    for _ in range(4):
        store.publish(
            "pima",
            {},
            lambda version: Manifest(
                model="pima",
                version=version,
                created_at="2026-01-31T12:00:00+00:00",
                files={},
                schema=Schema(()),
                outputs=Outputs(method="predict"),
            ),
        )
    return store


def _current(store: Store, alias: str = "production") -> int | None:
    release = releases.current(store, "pima", alias)
    return None if release is None else release.version


def _roll_back(store: Store) -> int:
    return releases.rollback(store, "pima").version


def test_nothing_is_released_at_first(store: Store) -> None:
    assert _current(store) is None
    assert releases.aliases(store, "pima") == []


def test_the_last_release_counts(store: Store) -> None:
    for version in (1, 3, 2):
        releases.promote(store, "pima", version)
    assert _current(store) == 2


def test_the_history_keeps_every_release(store: Store) -> None:
    for version in (1, 3, 2):
        releases.promote(store, "pima", version)
    log = releases.history(store, "pima")
    assert [(one.sequence, one.version) for one in log] == [(1, 1), (2, 3), (3, 2)]


def test_promoting_what_is_current_adds_nothing(store: Store) -> None:
    first = releases.promote(store, "pima", 2)
    assert releases.promote(store, "pima", 2) == first
    assert releases.history(store, "pima") == [first]


def test_aliases_do_not_touch_each_other(store: Store) -> None:
    releases.promote(store, "pima", 1)
    releases.promote(store, "pima", 2, "candidate")
    assert (_current(store), _current(store, "candidate")) == (1, 2)
    assert releases.aliases(store, "pima") == ["candidate", "production"]


def test_an_unknown_version_cannot_be_promoted(store: Store) -> None:
    with pytest.raises(UnknownVersionError):
        releases.promote(store, "pima", 9)
    assert _current(store) is None


def test_an_unknown_model_cannot_be_promoted(store: Store) -> None:
    with pytest.raises(UnknownModelError):
        releases.promote(store, "other", 1)


def test_an_alias_must_be_a_name(store: Store) -> None:
    with pytest.raises(InvalidName):
        releases.promote(store, "pima", 1, "../production")


def test_rolling_back_again_and_again_goes_back_further(store: Store) -> None:
    for version in (1, 2, 3):
        releases.promote(store, "pima", version)
    assert [_roll_back(store), _roll_back(store)] == [2, 1]


def test_what_was_rolled_back_is_not_gone_back_to(store: Store) -> None:
    for version in (1, 2):
        releases.promote(store, "pima", version)
    _roll_back(store)
    releases.promote(store, "pima", 4)
    assert _roll_back(store) == 1


def test_a_rollback_is_a_release_of_its_own(store: Store) -> None:
    releases.promote(store, "pima", 1)
    releases.promote(store, "pima", 2)
    release = releases.rollback(store, "pima")
    assert (release.sequence, release.kind, release.returns_to) == (3, "rollback", 1)


def test_the_first_release_cannot_be_rolled_back(store: Store) -> None:
    releases.promote(store, "pima", 1)
    with pytest.raises(NothingToRollBack):
        releases.rollback(store, "pima")
    assert _current(store) == 1


def test_an_alias_without_a_release_cannot_be_rolled_back(store: Store) -> None:
    releases.promote(store, "pima", 1, "candidate")
    with pytest.raises(UnknownAliasError, match="aliases there: candidate"):
        releases.rollback(store, "pima")


def test_people_who_release_at_once_all_get_a_release(store: Store) -> None:
    start = threading.Barrier(4)

    def work(version: int) -> None:
        start.wait()
        releases.promote(store, "pima", version)

    threads = [threading.Thread(target=work, args=(version,)) for version in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log = releases.history(store, "pima")
    assert [one.sequence for one in log] == [1, 2, 3, 4]
    assert {one.version for one in log} == {1, 2, 3, 4}


def test_an_alias_of_digits_only_is_refused(store: Store) -> None:
    with pytest.raises(InvalidName, match="version's number"):
        releases.promote(store, "pima", 1, "2")


def test_stray_files_are_no_aliases_and_no_releases(store: Store) -> None:
    releases.promote(store, "pima", 1)
    folder = store.root / "pima" / "releases"
    (folder / ".DS_Store").touch()
    (folder / "notes").touch()
    (folder / "empty").mkdir()
    (folder / "production" / "00000002 copy.json").touch()
    assert releases.aliases(store, "pima") == ["production"]
    assert _current(store) == 1


def test_a_release_of_another_alias_is_refused(store: Store) -> None:
    releases.promote(store, "pima", 1, "candidate")
    folder = store.root / "pima" / "releases"
    (folder / "candidate").rename(folder / "production")
    with pytest.raises(CorruptArtifact, match="about pima@candidate"):
        releases.current(store, "pima")


def test_a_release_under_another_number_is_refused(store: Store) -> None:
    releases.promote(store, "pima", 1)
    folder = store.root / "pima" / "releases" / "production"
    (folder / "00000001.json").rename(folder / "00000002.json")
    with pytest.raises(CorruptArtifact, match="number 1"):
        releases.current(store, "pima")


def test_a_broken_release_is_refused(store: Store) -> None:
    releases.promote(store, "pima", 1)
    (store.root / "pima/releases/production/00000002.json").write_text("{")
    with pytest.raises(CorruptArtifact, match="the release cannot be read"):
        releases.current(store, "pima")
