"""Pruning: nothing goes that may still be asked for, and what goes is never half there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from scoreline_artifacts import (
    CorruptArtifact,
    KeyRing,
    Store,
    UnknownModelError,
    UnknownVersionError,
    UntrustedArtifact,
)
from scoreline_artifacts.cli.retention import pin, prune, unpin
from scoreline_artifacts.store import releases, retention
from scoreline_artifacts.store.releases import Release
from tests.support.stores import Killed, kill, manifest_of

NOW = datetime.now(UTC)
LATER = NOW + timedelta(days=30)
FILES = {"pipeline.dill": b"pipeline", "sources/a.py": b""}


def _publish(store: Store) -> int:
    return store.publish(manifest_of(FILES, 1), FILES).version


@pytest.fixture(params=["folder", "bucket"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Store]:
    """Versions 1 to 9 of model pima, in a folder or in an object store."""
    root = str(tmp_path) if request.param == "folder" else f"memory://{tmp_path.name}/{id(request)}"
    monkeypatch.setenv("SCORELINE_ARTIFACTS", root)
    store = Store(root)
    for _ in range(9):
        _publish(store)
    yield store
    if request.param == "bucket":
        store.storage.remove_folder("")


def _promote(store: Store, *versions: int, alias: str = "production") -> None:
    for version in versions:
        releases.promote(store, "pima", version, alias)


def test_the_newest_versions_stay(store: Store) -> None:
    result = retention.prune(store, "pima", keep=3, now=LATER)
    assert (list(result.kept), result.removed) == ([7, 8, 9], [1, 2, 3, 4, 5, 6])
    assert store.versions("pima") == [7, 8, 9]


def test_what_an_alias_names_and_what_a_rollback_would_name_stays(store: Store) -> None:
    _promote(store, 1, 3, 2)
    _promote(store, 4, alias="candidate")
    result = retention.prune(store, "pima", keep=1, now=LATER)
    assert result.kept == {
        2: ["production names it"],
        3: ["a rollback of production would name it"],
        4: ["candidate names it"],
        9: ["it is the newest"],
    }
    assert releases.rollback(store, "pima").version == 3


def test_after_a_rollback_what_the_next_one_would_name_stays(store: Store) -> None:
    _promote(store, 1, 2, 3)
    releases.rollback(store, "pima")
    kept = retention.plan(store, "pima", keep=1, now=LATER).kept
    assert list(kept) == [1, 2, 9]
    retention.prune(store, "pima", keep=1, now=LATER)
    assert releases.rollback(store, "pima").version == 1


def test_what_was_in_force_within_a_week_stays(store: Store) -> None:
    _promote(store, 1, 2, 3)
    nearly = retention.plan(store, "pima", keep=1, now=NOW + timedelta(days=6))
    over = retention.plan(store, "pima", keep=1, now=NOW + timedelta(days=8))
    assert (list(nearly.kept), list(over.kept)) == ([1, 2, 3, 9], [2, 3, 9])
    assert "within the last 7 days" in nearly.kept[1][0]


def test_a_version_that_was_released_long_ago_and_until_today_stays(store: Store) -> None:
    old = Release(model="pima", alias="production", version=1, sequence=1, created_at=_ago(400))
    log = [old, replace(old, version=2, sequence=2, created_at=_ago(1))]
    log.append(replace(old, version=3, sequence=3, created_at=_ago(0)))
    assert retention.needed_versions("production", log, NOW).keys() == {1, 2, 3}


def _ago(days: int) -> str:
    return (NOW - timedelta(days=days)).isoformat()


def test_a_pinned_version_stays_until_it_is_unpinned(store: Store) -> None:
    retention.pin(store, "pima", 2)
    retention.pin(store, "pima", 2)
    assert retention.prune(store, "pima", keep=1, now=LATER).kept[2] == ["it is pinned"]
    assert retention.unpin(store, "pima", 2)
    assert not retention.unpin(store, "pima", 2)
    assert retention.prune(store, "pima", keep=1, now=LATER).removed == [2]


def test_only_a_version_that_is_there_can_be_pinned(store: Store) -> None:
    with pytest.raises(UnknownVersionError):
        retention.pin(store, "pima", 99)
    with pytest.raises(UnknownModelError):
        retention.pin(store, "other", 1)


def test_a_plan_changes_nothing(store: Store) -> None:
    assert retention.plan(store, "pima", keep=1, now=LATER).removed == list(range(1, 9))
    assert store.versions("pima") == list(range(1, 10))


def test_a_number_is_not_used_again(store: Store) -> None:
    retention.prune(store, "pima", keep=1, now=LATER)
    assert _publish(store) == 10


def test_nothing_goes_while_a_log_cannot_be_trusted(store: Store) -> None:
    _promote(store, 1)
    store.ring.revoke(str(store.ring.own_fingerprint()))
    with pytest.raises(UntrustedArtifact):
        retention.prune(store, "pima", keep=1, now=LATER)
    assert store.versions("pima") == list(range(1, 10))


def test_an_old_release_by_a_revoked_key_needs_no_version_and_is_no_obstacle(store: Store) -> None:
    _promote(store, 1)
    store.ring.revoke(str(store.ring.own_fingerprint()))
    store.ring.generate(rotate=True)
    _publish(store)
    _promote(store, 10)
    assert list(retention.prune(store, "pima", keep=1).kept) == [10]


def test_a_version_that_is_promoted_meanwhile_stays(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = store.storage.remove_version

    def promote_the_next(model: str, version: int) -> None:
        _promote(store, 2)
        real(model, version)

    monkeypatch.setattr(
        type(store.storage), "remove_version", lambda _, *args: promote_the_next(*args)
    )
    result = retention.prune(store, "pima", keep=7, now=LATER)
    assert result.removed == [1]
    assert result.kept[2] == ["an alias names it by now"]


def test_what_a_killed_publisher_left_goes_after_a_day(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(KeyRing, "sign", kill)
        # The dead do not tidy up.
        patch.setattr(store.storage, "remove_folder", lambda _: None)
        with pytest.raises(Killed):
            _publish(store)
    assert retention.prune(store, "pima", keep=1).leftovers == []
    assert retention.prune(store, "pima", keep=1, now=LATER).leftovers == ["pima/versions/10"]
    assert store.storage.names("pima/versions") == ["9"]
    assert _publish(store) == 11


def test_temporary_files_of_killed_writers_go_after_a_day(tmp_path: Path) -> None:
    store = Store(tmp_path)
    _promote(store, _publish(store))
    for name, days in (("old", 2), ("new", 0)):
        # Earlier releases of Scoreline left directories, and files beside the releases.
        left = tmp_path / ".staging" / name
        beside = tmp_path / "pima" / "releases" / "production" / f".writing-{name}"
        left.mkdir()
        beside.touch()
        for path in (left, beside):
            os.utime(path, times=(NOW.timestamp() - days * 86400,) * 2)
    removed = [".staging/old", "pima/releases/production/.writing-old"]
    assert retention.prune(store, "pima").leftovers == removed
    assert [one.name for one in (tmp_path / ".staging").iterdir()] == ["new"]


def _run(command: Any, *arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def test_the_command_says_what_it_kept_and_why(store: Store) -> None:
    _promote(store, 1)
    dry = _run(prune, "pima", "--keep", "2", "--dry-run")
    assert "kept     pima@1: production names it" in dry.output
    assert "would go pima@2" in dry.output
    done = json.loads(_run(prune, "pima", "--keep", "2", "--json").output)
    assert done["removed"] == [2, 3, 4, 5, 6, 7]
    assert store.versions("pima") == [1, 8, 9]


def test_the_commands_pin_and_unpin(store: Store) -> None:
    assert _run(pin, "pima", "3").output == "pinned pima@3\n"
    assert retention.pins(store, "pima") == [3]
    assert json.loads(_run(unpin, "pima", "3", "--json").output)["was_pinned"]
    assert _run(unpin, "pima", "3").output == "pima@3 was not pinned\n"


@pytest.mark.parametrize("command", [prune, pin, unpin], ids=lambda one: one.name)
def test_help_shows_examples(command: Any) -> None:
    assert "Examples:" in _run(command, "--help").output


@pytest.mark.parametrize("arguments", [["other"], ["../pima"], ["pima", "--keep", "0"]])
def test_what_cannot_be_pruned_is_wrong_usage(store: Store, arguments: list[str]) -> None:
    assert _run(prune, *arguments).exit_code == 2


def test_nothing_goes_while_the_log_of_an_alias_is_behind_a_link(tmp_path: Path) -> None:
    """Nobody knows which versions it names."""
    store = Store(tmp_path)
    for _ in range(3):
        _publish(store)
    _promote(store, 1)
    log = tmp_path / "pima" / "releases" / "production"
    log.rename(log.with_name("elsewhere"))
    log.symlink_to("elsewhere")
    for work in (retention.plan, retention.prune):
        with pytest.raises(CorruptArtifact, match="link"):
            work(store, "pima", keep=1, now=LATER)
    assert store.versions("pima") == [1, 2, 3]


def test_requests_may_name_what_prune_keeps_for_them(store: Store) -> None:
    for version in (1, 2, 3):
        _promote(store, version)
    retention.pin(store, "pima", 7)
    _promote(store, 4, alias="candidate")
    assert retention.in_use(store, "pima", NOW).keys() == {1, 2, 3, 4, 7}
    # A week later: what is in force, and what a rollback would restore.
    found = retention.in_use(store, "pima", datetime.now(UTC) + timedelta(days=8))
    assert found.keys() == {2, 3, 4, 7}
    assert found[3] == store.verified("pima", 3).sha256


def test_older_than_replaces_the_week_and_keeps_what_is_young(store: Store) -> None:
    _promote(store, 1, 2, 3, 4)
    published = datetime(2026, 1, 31, 12, tzinfo=UTC)
    an_hour_later = datetime.now(UTC) + timedelta(hours=1)
    within = timedelta(minutes=30)
    planned = retention.plan(store, "pima", keep=1, older_than=within, now=an_hour_later)
    assert planned.kept == {
        3: ["a rollback of production would name it"],
        4: ["production names it"],
        9: ["it is the newest"],
    }
    young = retention.plan(store, "pima", keep=1, older_than=timedelta(days=2), now=published)
    assert "it was published within 2 days" in young.kept[7]
    assert young.removed == []


@pytest.mark.parametrize(("age", "code"), [("12h", 0), ("2w", 0), ("30", 2), ("-1d", 2)])
def test_an_age_is_a_number_of_hours_days_or_weeks(store: Store, age: str, code: int) -> None:
    done = CliRunner().invoke(prune, ["pima", "--dry-run", "--older-than", age])
    assert done.exit_code == code, done.output


def test_spans_of_time_are_words(store: Store) -> None:
    assert [retention.in_words(timedelta(hours=n)) for n in (1, 2, 48)] == [
        "1 hour",
        "2 hours",
        "2 days",
    ]
    _promote(store, 1, 2, 3, 4)
    kept = retention.plan(store, "pima", keep=1, older_than=timedelta(hours=1)).kept
    assert "production named it within the last hour: jobs may still ask for it" in kept[1]


def test_what_goes_although_it_was_just_in_force_is_named(store: Store) -> None:
    _promote(store, 1, 2, 3, 4)
    arguments = ("pima", "--keep", "1", "--older-than", "0h")
    note = "note: pima@1, pima@2 were in force within 7 days: requests and jobs may still ask for them by number"
    assert note in _run(prune, *arguments, "--dry-run").output
    done = json.loads(_run(prune, *arguments, "--json").output)
    assert done["removed"] == [1, 2, 5, 6, 7, 8]
    assert done["asked_for"] == [1, 2]
    assert "note:" not in _run(prune, "pima", "--keep", "1").output
