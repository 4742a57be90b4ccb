"""Releases: an append-only log, read from its end."""

from __future__ import annotations

import shutil
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from scoreline_artifacts import (
    Distrust,
    InvalidName,
    KeyRing,
    LogReplaced,
    LogTruncated,
    NothingToRollBack,
    Release,
    Store,
    UnknownAliasError,
    UnknownModelError,
    UnknownVersionError,
    UntrustedArtifact,
    UntrustedLog,
)
from scoreline_artifacts.errors import CorruptArtifact
from scoreline_artifacts.store import releases
from scoreline_artifacts.store.marks import LogMarks
from scoreline_artifacts.store.signing import Purpose
from tests.support.stores import manifest_of

MANIFEST = manifest_of({}, 1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with versions 1 to 4 of model pima."""
    store = Store(tmp_path)
    for _ in range(4):
        store.publish(MANIFEST, {})
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
    folder = store.path("pima", 1).parents[1] / "releases"
    (folder / ".DS_Store").touch()
    (folder / "notes").touch()
    (folder / "empty").mkdir()
    (folder / "production" / "00000002 copy.json").touch()
    assert releases.aliases(store, "pima") == ["production"]
    assert _current(store) == 1


def test_a_release_of_another_alias_is_refused(store: Store) -> None:
    releases.promote(store, "pima", 1, "candidate")
    folder = store.path("pima", 1).parents[1] / "releases"
    (folder / "candidate").rename(folder / "production")
    with pytest.raises(CorruptArtifact, match="pima@candidate"):
        releases.current(store, "pima")


def test_a_release_under_another_number_is_refused(store: Store) -> None:
    releases.promote(store, "pima", 1)
    folder = store.path("pima", 1).parents[1] / "releases" / "production"
    (folder / "00000001.json").rename(folder / "00000002.json")
    with pytest.raises(CorruptArtifact, match="#1"):
        releases.current(store, "pima")


def _entry(store: Store, number: int, alias: str = "production") -> Path:
    return Path(store.root, f"pima/releases/{alias}/{number:08d}.json")


def _write(store: Store, number: int, line: bytes) -> None:
    """An entry that somebody with the key has signed."""
    signature = store.ring.sign(Purpose.RELEASE, line)
    _entry(store, number).write_bytes(line + b"\n" + signature)


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b'{"model": "pima"}'])
def test_a_broken_release_is_refused_though_it_is_signed(store: Store, line: bytes) -> None:
    releases.promote(store, "pima", 1)
    _write(store, 2, line)
    with pytest.raises(CorruptArtifact, match="cannot be read"):
        releases.current(store, "pima")


def test_an_unsigned_release_does_not_make_an_alias_fall_back(store: Store) -> None:
    release = releases.promote(store, "pima", 1)
    _entry(store, 2).write_bytes(replace(release, sequence=2, version=3).encode())
    with pytest.raises(UntrustedArtifact) as refused:
        releases.current(store, "pima")
    assert refused.value.reason == Distrust.UNSIGNED
    with pytest.raises(UntrustedArtifact):
        releases.rollback(store, "pima")


def test_a_changed_release_is_refused(store: Store) -> None:
    releases.promote(store, "pima", 1)
    entry = _entry(store, 1)
    entry.write_bytes(entry.read_bytes().replace(b'"version": 1', b'"version": 3'))
    with pytest.raises(UntrustedArtifact) as refused:
        releases.current(store, "pima")
    assert refused.value.reason == Distrust.BAD_SIGNATURE


def test_a_release_by_a_revoked_key_is_refused(store: Store) -> None:
    releases.promote(store, "pima", 1)
    own = store.ring.own_fingerprint()
    assert own is not None
    store.ring.revoke(own)
    with pytest.raises(UntrustedArtifact) as refused:
        releases.current(store, "pima")
    assert refused.value.reason == Distrust.REVOKED_KEY


def test_a_release_that_was_taken_out_of_the_middle_is_missed(store: Store) -> None:
    for version in (1, 2, 3):
        releases.promote(store, "pima", version)
    _entry(store, 2).unlink()
    with pytest.raises(CorruptArtifact, match=r"00000002\.json: it cannot be read: no file"):
        releases.rollback(store, "pima")
    with pytest.raises(CorruptArtifact, match=r"00000002\.json: it cannot be read: no file"):
        releases.history(store, "pima")


def test_after_a_key_was_revoked_what_is_released_anew_serves_and_can_be_rolled_back(
    store: Store, seen: LogMarks
) -> None:
    releases.promote(store, "pima", 1)
    store.ring.revoke(str(store.ring.own_fingerprint()))
    store.ring.generate(rotate=True)
    for version in (5, 6):
        store.publish(MANIFEST, {})
        release = releases.promote(store, "pima", version)
        assert releases.newest(store, "pima", "production", seen=seen) == release
    assert _roll_back(store) == 5
    trusted = releases.history(store, "pima", trusted_only=True)
    assert [one.sequence for one in trusted] == [2, 3, 4]
    with pytest.raises(UntrustedArtifact):
        _roll_back(store)


def test_a_release_can_be_made_although_the_last_entry_is_not_right(store: Store) -> None:
    releases.promote(store, "pima", 1)
    _entry(store, 2).write_bytes(b"nobody signed this")
    assert releases.promote(store, "pima", 1).sequence == 3
    assert _current(store) == 1


def test_an_entry_that_is_not_right_gives_no_chance_to_go_back_behind_it(
    store: Store, seen: LogMarks
) -> None:
    for version in (1, 2):
        releases.promote(store, "pima", version)
    _entry(store, 3).write_bytes(b"nobody signed this")
    releases.promote(store, "pima", 3)
    releases.newest(store, "pima", "production", seen=seen)
    for number in (3, 4):
        _entry(store, number).unlink()
    with pytest.raises(LogTruncated, match="end with number 2, but number 4 was seen here"):
        releases.newest(store, "pima", "production", seen=seen)


def test_all_releases_of_a_log_bear_its_number(store: Store) -> None:
    for version in (1, 2):
        releases.promote(store, "pima", version)
    releases.rollback(store, "pima")
    releases.promote(store, "pima", 1, "candidate")
    assert len({one.log for one in releases.history(store, "pima")}) == 1
    candidate = releases.history(store, "pima", "candidate")[0]
    assert candidate.log != releases.history(store, "pima")[0].log


def test_a_linked_log_is_refused(store: Store, tmp_path: Path) -> None:
    releases.promote(store, "pima", 1, "candidate")
    folder = tmp_path / "pima" / "releases"
    (folder / "production").symlink_to(folder / "candidate")
    with pytest.raises(CorruptArtifact, match="it is a link"):
        releases.current(store, "pima")
    assert releases.aliases(store, "pima") == ["candidate"]


def test_only_a_version_that_could_serve_can_be_promoted(store: Store) -> None:
    (store.path("pima", 2) / "signature.json").unlink()
    with pytest.raises(UntrustedArtifact, match="it is not signed"):
        releases.promote(store, "pima", 2)
    assert _current(store) is None


def test_heads_tell_how_far_every_log_goes(store: Store) -> None:
    releases.promote(store, "pima", 1)
    releases.promote(store, "pima", 2)
    releases.promote(store, "pima", 2, "candidate")
    heads = [(one.model, one.alias, one.sequence) for one in releases.heads(store)]
    assert heads == [("pima", "candidate", 1), ("pima", "production", 2)]


def test_a_stray_file_or_link_beside_the_models_is_in_nobodys_way(
    store: Store, tmp_path: Path
) -> None:
    releases.promote(store, "pima", 1)
    (tmp_path / "notes").touch()
    (tmp_path / "copy").symlink_to(tmp_path / "pima")
    assert [one.model for one in releases.heads(store)] == ["pima"]
    assert store.models() == ["pima"]


@pytest.fixture
def seen(tmp_path_factory: pytest.TempPathFactory) -> LogMarks:
    return LogMarks(tmp_path_factory.mktemp("cache") / "seen")


def test_the_newest_release_is_given_as_long_as_the_log_only_grows(
    store: Store, seen: LogMarks
) -> None:
    assert releases.newest(store, "pima", "production", seen=seen) is None
    for version in (1, 3, 2):
        release = releases.promote(store, "pima", version)
        assert releases.newest(store, "pima", "production", seen=seen) == release


def test_a_log_whose_end_was_taken_away_is_refused_where_it_was_seen(
    store: Store, seen: LogMarks
) -> None:
    for version in (1, 3, 2):
        releases.promote(store, "pima", version)
    releases.newest(store, "pima", "production", seen=seen)
    _entry(store, 3).unlink()
    for _ in range(2):
        with pytest.raises(LogTruncated, match="end with number 2, but number 3 was seen here"):
            releases.newest(store, "pima", "production", seen=LogMarks(seen.folder))


def test_a_shorter_log_can_be_accepted(store: Store, seen: LogMarks) -> None:
    for version in (1, 3):
        releases.promote(store, "pima", version)
    releases.newest(store, "pima", "production", seen=seen)
    _entry(store, 2).unlink()
    with pytest.raises(
        LogTruncated, match=f"scoreline accept pima.*remove {seen.folder}"
    ) as refused:
        releases.newest(store, "pima", "production", seen=seen)
    log = releases.history(store, "pima")[0].log
    seen.accept(store.known_as(), "pima", "production", log=log, number=1)
    release = releases.newest(store, "pima", "production", seen=seen)
    assert (refused.value.found, refused.value.seen) == (1, 2)
    assert release is not None
    assert release.version == 1


def test_a_store_that_was_begun_anew_has_other_logs(store: Store, seen: LogMarks) -> None:
    for version in (1, 3):
        releases.promote(store, "pima", version)
    releases.newest(store, "pima", "production", seen=seen)
    shutil.rmtree(store.root)
    store.publish(MANIFEST, {})
    release = releases.promote(store, "pima", 1)
    assert releases.newest(store, "pima", "production", seen=seen) == release


def test_a_mark_that_cannot_be_kept_does_not_stop_a_worker(store: Store, tmp_path: Path) -> None:
    release = releases.promote(store, "pima", 1)
    (tmp_path / "file").touch()
    seen = LogMarks(tmp_path / "file" / "seen")
    assert releases.newest(store, "pima", "production", seen=seen) == release


def test_a_file_with_a_huge_number_is_no_obstacle(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever can write to a store could make every promotion walk over a month of numbers."""
    releases.promote(store, "pima", 1)
    reads = 0
    read = store.storage.read

    def counted(path: str, *, limit_bytes: int) -> bytes:
        nonlocal reads
        reads += 1
        assert reads < 100
        return read(path, limit_bytes=limit_bytes)

    monkeypatch.setattr(store.storage, "read", counted)
    log = Path(store.root) / "pima" / "releases" / "production"
    (log / "99999999999.json").write_text("{}")
    assert releases.promote(store, "pima", 2).sequence == 10**11
    assert [one.version for one in releases.history(store, "pima", trusted_only=True)] == [1, 2]
    with pytest.raises(CorruptArtifact, match="no file"):
        releases.history(store, "pima")


# Two who publish, and trust each other or not


@dataclass(frozen=True)
class Publisher:
    """Somebody with a folder of keys and a cache of his own."""

    store: Store
    seen: LogMarks

    def promote(self, version: int, **options: Any) -> Release:
        return releases.promote(self.store, "pima", version, seen=self.seen, **options)

    def publish(self) -> int:
        return self.store.publish(MANIFEST, {}).version

    def trust(self, other: Publisher, **limits: Any) -> None:
        self.store.ring.trust(other.store.ring.export(), **limits)


@pytest.fixture
def two(tmp_path: Path) -> tuple[Publisher, Publisher]:
    """A has released versions 1 and 2; B has published version 3. A trusts B, and B does not trust A."""
    a, b = (
        Publisher(
            Store(tmp_path / "store", KeyRing(tmp_path / name)),
            LogMarks(tmp_path / f"{name}-cache" / "seen"),
        )
        for name in "ab"
    )
    for number in (1, 2):
        a.promote(a.publish())
        assert releases.history(a.store, "pima")[-1].version == number
    b.publish()
    a.trust(b)
    return a, b


def test_who_trusts_no_key_of_a_log_does_not_begin_another_one(
    two: tuple[Publisher, Publisher],
) -> None:
    a, b = two
    with pytest.raises(UntrustedLog, match="scoreline keys trust") as refused:
        b.promote(3)
    assert refused.value.fingerprint == a.store.ring.own_fingerprint()
    assert str(refused.value.fingerprint) in str(refused.value)
    assert a.promote(1).sequence == 3


def test_who_comes_to_trust_the_key_of_a_log_goes_on_in_it(
    two: tuple[Publisher, Publisher],
) -> None:
    a, b = two
    b.trust(a)
    assert b.promote(3).log == a.promote(1).log
    assert releases.rollback(a.store, "pima", seen=a.seen).version == 3


def test_a_key_that_is_trusted_for_other_names_has_a_log_of_others_too(
    two: tuple[Publisher, Publisher],
) -> None:
    a, b = two
    b.trust(a, models=["fraud-*"])
    with pytest.raises(UntrustedLog, match="not trusted for this name here"):
        b.promote(3)


def test_a_log_is_begun_anew_on_purpose_and_the_refusal_elsewhere_names_the_cause(
    two: tuple[Publisher, Publisher],
) -> None:
    a, b = two
    log = releases.history(a.store, "pima")[0].log
    begun = b.promote(3, new_log=True)
    assert begun.log != log
    with pytest.raises(LogReplaced, match="promote --new-log"):
        a.promote(1)
    # From then on it is a log as any other.
    b.publish()
    assert b.promote(4).log == begun.log


def test_who_has_seen_a_log_goes_on_in_it_though_its_key_is_trusted_no_more(
    two: tuple[Publisher, Publisher],
) -> None:
    a, b = two
    b.trust(a)
    log = b.promote(3).log
    number = b.publish()
    a.publish()
    a.promote(5)
    b.store.ring.revoke(str(a.store.ring.own_fingerprint()))
    assert b.promote(number).log == log


def test_an_entry_that_somebody_else_makes_at_the_same_moment_begins_the_log(
    two: tuple[Publisher, Publisher], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = two
    numbers_of, calls = releases.numbers_of, []

    def late(store: Store, model: str, alias: str) -> list[int]:
        calls.append(alias)
        if len(calls) > 1:
            return numbers_of(store, model, alias)
        releases.promote(a.store, model, 1, alias)
        return []  # as it was before A's release

    monkeypatch.setattr(releases, "numbers_of", late)
    with pytest.raises(UntrustedLog):
        releases.promote(b.store, "pima", 3, "candidate", seen=b.seen)


def test_a_damaged_log_of_ones_own_is_no_log_of_others(store: Store) -> None:
    releases.promote(store, "pima", 1)
    _entry(store, 1).write_bytes(b"damaged")
    assert releases.promote(store, "pima", 2).sequence == 2
