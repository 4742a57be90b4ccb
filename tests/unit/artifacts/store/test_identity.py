"""What is signed for one store, or for one name, is nothing for another: nobody who only writes to a store chooses what serves.

Who attacks here holds everything that was ever signed, and no key: two stores with the same keys, all that was in them
before, and all that an earlier Scoreline, which named no store, has published.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from scoreline_artifacts import (
    ArtifactError,
    Distrust,
    KeyRing,
    LogReplaced,
    LogTruncated,
    Release,
    Store,
    StoreReplaced,
    UntrustedArtifact,
)
from scoreline_artifacts.cli.stores import accept, copy
from scoreline_artifacts.manifest import MANIFEST, SIGNATURE
from scoreline_artifacts.store import releases
from scoreline_artifacts.store.identity import IDENTITY
from scoreline_artifacts.store.marks import LogMarks
from scoreline_artifacts.store.signing import Purpose
from tests.support.stores import manifest_of


@dataclass(frozen=True)
class World:
    """Two stores with the same keys, and a worker that serves the one in production."""

    folder: Path

    @cached_property
    def ring(self) -> KeyRing:
        return KeyRing(self.folder / "publisher")

    @property
    def production(self) -> Store:
        return Store(self.folder / "production", self.ring)

    @property
    def staging(self) -> Store:
        return Store(self.folder / "staging", self.ring)

    @property
    def worker(self) -> Store:
        return Store(self.folder / "production", KeyRing(self.folder / "worker"))

    @property
    def seen(self) -> LogMarks:
        return LogMarks(self.folder / "worker-cache" / "seen")

    def publish(self, store: Store, note: str, model: str = "pima") -> int:
        files = {"note": note.encode()}
        return store.publish(manifest_of(files, 1, model), files).version

    def serve(self, alias: str = "production") -> tuple[int, str]:
        """What a worker that starts now would serve: version and the note in it."""
        release = releases.newest(self.worker, "pima", alias, seen=self.seen)
        assert release is not None
        sha256 = release.manifest_sha256 or None
        verified = self.worker.verified("pima", release.version, sha256)
        return release.version, self.worker.read(verified.manifest, "note").decode()

    def refusal(self) -> Distrust:
        with pytest.raises(UntrustedArtifact) as refused:
            self.serve()
        return refused.value.reason

    def entry(self, store: str, number: int) -> Path:
        return self.folder / store / f"pima/releases/production/{number:08d}.json"

    def version(self, store: str, number: int) -> Path:
        return self.folder / store / f"pima/versions/{number}"


def make_world(folder: Path) -> World:
    """Production serves its version 1; staging has had more, and has promoted version 3 as its third release."""
    world = World(folder)
    for name in ("p1", "p2"):
        world.publish(world.production, name)
    releases.promote(world.production, "pima", 1)
    for number, name in enumerate(("s1", "s2", "s3"), 1):
        world.publish(world.staging, name)
        releases.promote(world.staging, "pima", number)
    world.worker.ring.trust(world.ring.export())
    assert world.serve() == (1, "p1")
    return world


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def _replace(path: Path, by: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(by, path)


# Another store's


def test_another_stores_version_is_refused(world: World) -> None:
    _replace(world.version("production", 1), world.version("staging", 1))
    assert world.refusal() == Distrust.OTHER_BYTES
    with pytest.raises(UntrustedArtifact, match=r"signed for another store.*scoreline copy") as no:
        world.worker.manifest("pima", 1)
    assert no.value.reason == Distrust.OTHER_STORE


def test_another_stores_release_is_refused(world: World) -> None:
    _replace(world.version("production", 3), world.version("staging", 3))
    shutil.copy(world.entry("staging", 2), world.entry("production", 2))
    assert world.refusal() == Distrust.OTHER_STORE


def test_another_store_in_the_place_of_a_known_one_is_refused_until_somebody_accepts_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _replace(world.folder / "production", world.folder / "staging")
    with pytest.raises(StoreReplaced, match="scoreline accept"):
        world.serve()
    monkeypatch.setenv("SCORELINE_ARTIFACTS", str(world.folder / "production"))
    monkeypatch.setenv("SCORELINE_KEYS", str(world.folder / "worker"))
    done = CliRunner().invoke(accept, ["--json"])
    assert (done.exit_code, len(json.loads(done.output)["store"])) == (0, 64), done.output
    assert world.serve() == (3, "s3")


def test_a_store_whose_identity_was_taken_away_is_refused(world: World) -> None:
    (world.folder / "production" / IDENTITY).unlink()
    with pytest.raises(StoreReplaced, match="without an identity"):
        world.serve()
    with pytest.raises(StoreReplaced):
        world.publish(world.production, "p3")


def test_a_store_that_was_emptied_can_be_begun_anew_where_it_is_published(world: World) -> None:
    shutil.rmtree(world.folder / "production")
    assert world.publish(world.production, "anew") == 1
    releases.promote(world.production, "pima", 1)
    with pytest.raises(StoreReplaced):
        world.serve()


def test_what_an_identity_lists_is_believed_only_if_a_trusted_key_signed_it(
    earlier: World,
) -> None:
    earlier.publish(earlier.production, "p2")
    path = earlier.folder / "production" / IDENTITY
    line = path.read_bytes().partition(b"\n")[0]
    stranger = KeyRing(earlier.folder / "stranger")
    signed, by_stranger = path.read_bytes(), line + b"\n" + stranger.sign(Purpose.STORE, line)
    _replace(earlier.version("production", 3), earlier.version("staging", 3))
    path.write_bytes(by_stranger)
    assert earlier.serve() == (1, "p1")
    assert earlier.worker.manifest("pima", 2).version == 2
    assert earlier.worker.manifest("pima", 3).version == 3, "as before the store had an identity"
    for signature, reason in ((b"", Distrust.UNSIGNED), (b"{}", Distrust.BAD_SIGNATURE)):
        path.write_bytes(line + b"\n" + signature)
        assert earlier.refusal() == reason
    for data in (signed, by_stranger):  # once it was verified, it goes on being believed
        path.write_bytes(data)
        assert earlier.serve() == (1, "p1")
        with pytest.raises(UntrustedArtifact, match="signed for another store"):
            earlier.worker.manifest("pima", 3)


def test_who_begins_a_store_takes_nothing_away_where_nobody_trusts_them(earlier: World) -> None:
    """One of two teams publishes first with the release that gives stores an identity."""
    other = KeyRing(earlier.folder / "other")
    earlier.publish(Store(earlier.folder / "production", other), "theirs", "other")
    assert earlier.serve() == (1, "p1")
    for store in (earlier.production, earlier.worker):
        assert [each.version for each in releases.history(store, "pima")] == [1]
    number = earlier.publish(earlier.production, "p2")
    releases.promote(earlier.production, "pima", number)
    assert earlier.serve() == (2, "p2")
    releases.rollback(earlier.production, "pima")
    assert earlier.serve() == (1, "p1")
    # Where they are trusted, what their identity lists counts.
    _replace(earlier.version("production", 3), earlier.version("staging", 3))
    earlier.worker.ring.trust(other.export())
    assert earlier.serve() == (1, "p1")
    with pytest.raises(UntrustedArtifact, match="signed for another store"):
        earlier.worker.manifest("pima", 3)


def test_an_identity_outlives_the_key_that_signed_it(earlier: World) -> None:
    """After a theft the key is revoked everywhere, and what others have signed goes on."""
    earlier.publish(earlier.production, "p2")
    assert earlier.serve() == (1, "p1")
    other = KeyRing(earlier.folder / "other")
    for ring in (earlier.ring, earlier.worker.ring):
        other.generate()
        ring.trust(other.export())
    stolen = str(earlier.ring.own_fingerprint())
    theirs = Store(earlier.folder / "production", other)
    other.trust(earlier.ring.export())
    number = earlier.publish(theirs, "p3")
    releases.promote(theirs, "pima", number)
    for ring in (earlier.worker.ring, other):
        ring.revoke(stolen)
    assert earlier.serve() == (number, "p3")
    # A machine that has never seen the store believes it as well, once somebody has signed it again.
    releases.promote(theirs, "pima", earlier.publish(theirs, "p4"))
    shutil.rmtree(earlier.folder / "worker" / "stores")
    assert earlier.serve() == (number + 1, "p4")


def test_who_publishes_need_not_trust_who_began_the_store(world: World) -> None:
    other = KeyRing(world.folder / "other")
    theirs = Store(world.folder / "production", other)
    number = world.publish(theirs, "theirs")
    releases.promote(theirs, "pima", number, "candidate")
    world.worker.ring.trust(other.export())
    assert world.serve("candidate") == (number, "theirs")
    assert world.serve() == (1, "p1")


def test_a_worker_that_cannot_remember_the_store_says_so_and_serves(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder of keys may be mounted read-only."""
    shutil.rmtree(world.folder / "worker" / "stores")
    (world.folder / "worker" / "stores").symlink_to("/proc/nothing")
    assert world.serve() == (1, "p1")
    assert "store_not_pinned" in caplog.text


def test_a_copy_on_purpose_is_signed_anew_and_says_where_it_is_from(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCORELINE_ARTIFACTS", str(world.folder / "production"))
    monkeypatch.setenv("SCORELINE_KEYS", str(world.folder / "publisher"))
    done = CliRunner().invoke(copy, ["pima", "--from", str(world.folder / "staging"), "--json"])
    assert json.loads(done.output) == {"model": "pima", "version": 3, "copied": "pima@3"}
    releases.promote(world.production, "pima", 3)
    assert world.serve() == (3, "s3")
    assert "staging" in world.worker.manifest("pima", 3).training["copied from"]


def test_a_copy_says_where_it_is_from_without_the_secrets_of_a_url(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = f"memory://user:hunter2@{world.folder.name}/staging?token=hunter3"
    world.publish(Store(source, world.ring), "elsewhere")
    monkeypatch.setenv("SCORELINE_ARTIFACTS", str(world.folder / "production"))
    monkeypatch.setenv("SCORELINE_KEYS", str(world.folder / "publisher"))
    done = CliRunner().invoke(copy, ["pima@1", "--from", source])
    place = f"memory://{world.folder.name}/staging?…"
    assert done.output == f"copied pima@1 of {place}: here it is pima@3\n"
    assert world.worker.manifest("pima", 3).training["copied from"] == f"pima@1 of {place}"


# The same number twice


def test_a_number_is_not_given_twice_though_its_claim_was_removed(world: World) -> None:
    shutil.rmtree(world.version("production", 2))
    shutil.rmtree(world.folder / "production/pima/numbers")
    assert world.publish(world.production, "p3") == 3


def test_other_bytes_under_the_number_that_was_released_are_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine that knows nothing of the first ones the number is given again."""
    kept = world.folder / "kept"
    shutil.move(world.version("production", 2), kept)
    shutil.rmtree(world.folder / "production/pima/numbers")
    monkeypatch.setenv("SCORELINE_CACHE", str(world.folder / "another machine"))
    assert world.publish(world.production, "other p2") == 2
    releases.promote(world.production, "pima", 2)
    assert world.serve() == (2, "other p2")
    _replace(world.version("production", 2), kept)
    assert world.refusal() == Distrust.OTHER_BYTES
    releases.promote(world.production, "pima", 1)
    with pytest.raises(UntrustedArtifact, match="another one is in its place"):
        releases.rollback(world.production, "pima")


# Another log of the same alias


def test_a_log_that_was_begun_anew_is_refused_until_somebody_accepts_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(world.entry("production", 1).parent)
    with pytest.raises(LogTruncated, match="end with number 0"):
        world.serve()
    releases.promote(world.production, "pima", 2)
    with pytest.raises(LogReplaced, match="scoreline accept pima --alias production"):
        world.serve()
    monkeypatch.setenv("SCORELINE_ARTIFACTS", str(world.folder / "production"))
    monkeypatch.setenv("SCORELINE_KEYS", str(world.folder / "worker"))
    monkeypatch.setenv("SCORELINE_CACHE", str(world.folder / "worker-cache"))
    done = CliRunner().invoke(accept, ["pima"])
    assert done.output == "accepted: pima@production ends with number 1, version 2\n"
    assert world.serve() == (2, "p2")


def test_where_releases_were_seen_a_promotion_goes_on_behind_those_that_were_taken_away(
    world: World,
) -> None:
    releases.promote(world.production, "pima", 2, seen=world.seen)
    shutil.rmtree(world.entry("production", 1).parent)
    with pytest.raises(LogTruncated):
        releases.rollback(world.production, "pima", seen=world.seen)
    assert releases.promote(world.production, "pima", 2, seen=world.seen).sequence == 3
    assert world.serve() == (2, "p2")


def test_a_promotion_into_another_log_than_the_known_one_is_refused(world: World) -> None:
    shutil.rmtree(world.entry("production", 1).parent)
    releases.promote(world.production, "pima", 2)
    with pytest.raises(LogReplaced):
        releases.promote(world.production, "pima", 1, seen=world.seen)


@pytest.mark.parametrize("rights", [0o777, 0o720])
def test_marks_that_others_may_write_are_not_believed(
    world: World, rights: int, caplog: pytest.LogCaptureFixture
) -> None:
    for path in world.seen.folder.iterdir():
        path.write_text("99999999999999999999")
    world.seen.folder.chmod(rights)
    assert world.serve() == (1, "p1")
    assert "others may write to it" in caplog.text


# Keys that are trusted for some names only


def test_a_key_is_trusted_for_the_models_and_aliases_that_it_was_limited_to(world: World) -> None:
    world.worker.ring.trust(world.ring.export(), models=["pi*"], aliases=["production"])
    assert world.serve() == (1, "p1")
    releases.promote(world.production, "pima", 2, "candidate")
    with pytest.raises(UntrustedArtifact, match=r"models pi\*; aliases production") as refused:
        world.serve("candidate")
    assert refused.value.reason == Distrust.OTHER_NAME
    world.worker.ring.trust(world.ring.export(), models=["fraud-*"])
    assert world.refusal() == Distrust.OTHER_NAME
    with pytest.raises(UntrustedArtifact, match=r"models fraud-\*"):
        world.worker.manifest("pima", 2)
    world.worker.ring.trust(world.ring.export())
    assert world.serve() == (1, "p1")


def test_a_key_for_staging_alone_signs_what_another_key_promotes(world: World) -> None:
    scientist = KeyRing(world.folder / "scientist")
    for ring in (world.ring, world.worker.ring, scientist):
        ring.trust(world.ring.export())
        if ring is scientist:
            scientist.generate()
    for ring in (world.ring, world.worker.ring):
        ring.trust(scientist.export(), aliases=["staging"])
    theirs = Store(world.folder / "production", scientist)
    number = world.publish(theirs, "theirs")
    releases.promote(theirs, "pima", number)
    assert world.refusal() == Distrust.OTHER_NAME
    releases.promote(world.production, "pima", number)
    assert world.serve() == (number, "theirs")


def test_a_limited_key_publishes_and_promotes_nothing_else(world: World) -> None:
    world.ring.trust(world.ring.export(), models=["pima"], aliases=["staging"])
    with pytest.raises(UntrustedArtifact, match="not trusted for this name"):
        world.publish(world.production, "x", "other")
    assert world.production.versions("other") == []
    with pytest.raises(UntrustedArtifact, match="not trusted for this name"):
        releases.promote(world.production, "pima", 2)
    assert world.serve() == (1, "p1")


def test_limits_that_cannot_be_read_are_not_taken_for_none(world: World) -> None:
    path = next((world.folder / "worker" / "trusted").glob("*.pem")).with_suffix(".json")
    path.write_text("{")
    with pytest.raises(ArtifactError, match="does not say what the key is trusted for"):
        world.serve()


# What an earlier Scoreline has published


def publish_as_before(store: Store, note: str, number: int) -> None:
    """A version as an earlier release writes it."""
    manifest = replace(manifest_of({"note": note.encode()}, number), format_version=2)
    folder = Path(store.root, f"pima/versions/{number}")
    folder.mkdir(parents=True)
    data = manifest.encode()
    assert b'"store"' not in data
    (folder / "note").write_bytes(note.encode())
    (folder / MANIFEST).write_bytes(data)
    (folder / SIGNATURE).write_bytes(store.ring.sign(Purpose.ARTIFACT, data))


def release_as_before(store: Store, version: int, number: int, log: str) -> None:
    """A release as an earlier release writes it."""
    values = Release(
        model="pima", alias="production", version=version, sequence=number, log=log, nonce="1"
    )
    line = values.encode()
    assert b'"store"' not in line
    path = Path(store.root, f"pima/releases/production/{number:08d}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(line + b"\n" + store.ring.sign(Purpose.RELEASE, line))


@pytest.fixture
def earlier(tmp_path: Path) -> World:
    """The same, made by an earlier release."""
    world = World(tmp_path)
    publish_as_before(world.production, "p1", 1)
    release_as_before(world.production, 1, 1, "production's")
    for number, name in enumerate(("s1", "s2", "s3"), 1):
        publish_as_before(world.staging, name, number)
        release_as_before(world.staging, number, number, "staging's")
    world.worker.ring.trust(world.ring.export())
    assert world.serve() == (1, "p1")
    return world


def test_what_was_there_before_goes_on_serving(earlier: World) -> None:
    number = earlier.publish(earlier.production, "p2")
    assert (number, earlier.serve()) == (2, (1, "p1"))
    assert earlier.production.versions("pima") == [1, 2]
    second = releases.promote(earlier.production, "pima", 2)
    first = releases.history(earlier.production, "pima")[0]
    assert (second.sequence, second.log, first.store) == (2, first.log, "")
    assert earlier.serve() == (2, "p2")
    releases.rollback(earlier.production, "pima")
    assert earlier.serve() == (1, "p1")


@pytest.mark.parametrize(
    "attack",
    [
        lambda world: _replace(world.version("production", 1), world.version("staging", 1)),
        lambda world: shutil.copy(world.entry("staging", 3), world.entry("production", 3)),
        lambda world: _replace(
            world.entry("production", 1).parent, world.entry("staging", 1).parent
        ),
    ],
    ids=["its version", "its release", "its log"],
)
def test_once_a_store_has_its_identity_another_stores_earlier_files_are_refused(
    earlier: World, attack: Callable[[World], object]
) -> None:
    earlier.publish(earlier.production, "p2")
    _replace(earlier.version("production", 3), earlier.version("staging", 3))
    attack(earlier)
    shutil.rmtree(earlier.seen.folder)
    assert earlier.refusal() == Distrust.OTHER_STORE


def test_no_entry_that_names_no_store_follows_one_that_does(earlier: World) -> None:
    releases.promote(earlier.production, "pima", 1)
    earlier.publish(earlier.production, "p2")
    releases.promote(earlier.production, "pima", 2)
    release_as_before(earlier.production, 1, 3, "production's")
    assert earlier.refusal() == Distrust.OTHER_STORE


# Whatever is done


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world with much that was signed: other models, aliases, versions and releases of both stores."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCORELINE_CACHE", str(tmp_path_factory.mktemp("cache")))
        world = make_world(tmp_path_factory.mktemp("before"))
        for store in (world.production, world.staging):
            world.publish(store, "other", "other")
            releases.promote(store, "other", 1)
            releases.promote(store, "pima", 2, "candidate")
            releases.promote(store, "pima", 2)
        releases.promote(world.production, "pima", 1)
        assert world.serve() == (1, "p1")
        yield world


_PLACES = st.sampled_from(
    [
        IDENTITY,
        *(f"pima/versions/{number}" for number in (1, 2, 3)),
        *(f"pima/versions/1/{name}" for name in ("note", MANIFEST, SIGNATURE)),
        *(f"pima/releases/production/{number:08d}.json" for number in range(1, 6)),
        "pima/releases/production",
        "pima/releases/candidate",
        "pima",
        "other",
        "",
    ]
)
_STORES = st.sampled_from(["kept", "staging"])
_MUTATION = st.one_of(
    st.tuples(st.just("copy"), _STORES, _PLACES, _PLACES),
    st.tuples(st.just("remove"), st.just(""), st.just(""), _PLACES),
    st.tuples(st.just("cut"), st.just(""), st.just(""), _PLACES),
)


def _mutate(world: World, kind: str, store: str, source: str, target: str) -> None:
    path, origin = world.folder / "production" / target, world.folder / store / source
    if kind == "cut":
        if path.is_file():
            path.write_bytes(path.read_bytes()[:-1])
        return
    if kind == "copy" and not origin.exists():
        return
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    if kind == "copy":
        path.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if origin.is_dir() else shutil.copy)(origin, path)


@settings(max_examples=40)
@given(mutations=st.lists(_MUTATION, min_size=1, max_size=4))
def test_whatever_is_copied_removed_or_cut_is_refused_or_changes_nothing_that_serves(
    before: World, mutations: list[tuple[str, str, str, str]]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "world"
        shutil.copytree(before.folder, folder)
        world = World(folder)
        # The copy has another address: the worker learns to know it before anything is done.
        world.serve()
        shutil.copytree(folder / "production", folder / "kept")
        for mutation in mutations:
            if not Path(folder, "production").exists():
                break
            with suppress(OSError):  # such as a file in the place of a folder
                _mutate(world, *mutation)
            try:
                served = world.serve()
            except ArtifactError:
                continue
            assert served == (1, "p1")
