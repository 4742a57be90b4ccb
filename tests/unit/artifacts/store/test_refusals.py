"""What somebody can do to an artifact who can write to the store, and that all of it is refused.

The pipeline of this artifact leaves a mark when it is unpickled: not one byte of what is refused ever
gets that far. `python -m tests.unit.artifacts.store.test_refusals` prints the table.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import dill
import pytest

from scoreline_artifacts import (
    ArtifactError,
    CorruptArtifact,
    KeyRing,
    LogTruncated,
    Manifest,
    Store,
    UntrustedArtifact,
)
from scoreline_artifacts.loading.artifact import load
from scoreline_artifacts.manifest import GOLDEN, MANIFEST, PIPELINE, SIGNATURE
from scoreline_artifacts.store import releases
from scoreline_artifacts.store.marks import LogMarks
from scoreline_artifacts.store.signing import Purpose
from scoreline_artifacts.store.store import describe_file
from tests.support.stores import manifest_of

HARMED = 300
SEED = 20260131
REFUSALS = (CorruptArtifact, LogTruncated, UntrustedArtifact)


_ANSWERS = (
    "(__import__('os').makedirs({mark!r}, exist_ok=True), __import__('sklearn.dummy').dummy."
    "DummyRegressor(strategy='constant', constant=0.0).fit([[0.0]], [0.0]))[1]"
)
"""An expression that leaves a folder behind, and is a pipeline."""


class Marking:
    """Leaves a folder behind wherever it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return eval, (_ANSWERS.format(mark=str(self.mark)),)


@dataclass(frozen=True)
class World:
    """A store with version 1 of `pima`, released as production, and a worker that has seen it."""

    folder: Path

    @property
    def store(self) -> Store:
        return Store(self.folder / "store", KeyRing(self.folder / "publisher"))

    @property
    def worker(self) -> Store:
        return Store(self.folder / "store", KeyRing(self.folder / "worker"))

    @property
    def mark(self) -> Path:
        return self.folder / "unpickled"

    @property
    def version(self) -> Path:
        return self.folder / "store" / "pima" / "versions" / "1"

    def entry(self, number: int, alias: str = "production") -> Path:
        return self.folder / "store" / "pima" / "releases" / alias / f"{number:08d}.json"

    @property
    def files(self) -> list[Path]:
        """Every file that decides what serves."""
        artifact = sorted(path for path in self.version.rglob("*") if path.is_file())
        return [*artifact, self.entry(2)]

    def publish(self, store: Store, model: str = "pima", note: bytes = b"1") -> Manifest:
        files = {
            PIPELINE: dill.dumps(Marking(self.mark)),
            GOLDEN: b"",
            "report.html": b"<p>" + note,
            "sources/churn/__init__.py": b"# a package",
            "sources/churn/features.py": b"def is_adult(age): return age >= 18",
        }
        return store.publish(manifest_of(files, 1, model), files)

    def serve(self) -> None:
        """What a worker does that starts now, up to the pipeline's first byte and beyond."""
        seen = LogMarks(self.folder / "seen")
        release = releases.newest(self.worker, "pima", "production", seen=seen)
        assert release is not None
        load(self.worker, "pima", release.version)

    def refused(self) -> bool:
        """Whether a worker refuses what is there now, before a byte of it is unpickled."""
        refused = False
        try:
            self.serve()
        except REFUSALS:
            refused = True
        except ArtifactError:
            pass
        if self.mark.exists():
            self.mark.rmdir()
            return False
        return refused


def make_world(folder: Path) -> World:
    world = World(folder)
    for note in (b"1", b"2"):
        world.publish(world.store, note=note)
    # Twice, so that there is something to go back to.
    releases.promote(world.store, "pima", 2)
    releases.promote(world.store, "pima", 1)
    world.worker.ring.trust(world.store.ring.export())
    world.serve()
    assert world.mark.is_dir(), "the control: what is right is unpickled"
    world.mark.rmdir()
    return world


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def _harmed(data: bytes, chance: random.Random) -> tuple[str, bytes]:
    """Bytes with one bit flipped, or cut off somewhere."""
    at = chance.randrange(len(data))
    if chance.random() < 2 / 3:
        flipped = data[at] ^ 1 << chance.randrange(8)
        return "flipped bit", data[:at] + bytes([flipped]) + data[at + 1 :]
    return "truncation", data[:at]


def harm_at_random(world: World, count: int) -> dict[str, list[bool]]:
    """Flip bits and cut files off, one at a time; says of each whether it was refused."""
    chance = random.Random(SEED)
    outcome: dict[str, list[bool]] = {"flipped bit": [], "truncation": []}
    for _ in range(count):
        path = chance.choice([one for one in world.files if one.stat().st_size])
        whole = path.read_bytes()
        kind, harmed = _harmed(whole, chance)
        path.write_bytes(harmed)
        outcome[kind].append(world.refused())
        path.write_bytes(whole)
    return outcome


Attack = Callable[[World], None]


def _unsigned(world: World) -> None:
    (world.version / SIGNATURE).unlink()


def _by_an_unknown_key(world: World) -> None:
    data = (world.version / MANIFEST).read_bytes()
    stranger = KeyRing(world.folder / "stranger")
    (world.version / SIGNATURE).write_bytes(stranger.sign(Purpose.ARTIFACT, data))


def _released_by_an_unknown_key(world: World) -> None:
    line = world.entry(2).read_bytes().partition(b"\n")[0]
    stranger = KeyRing(world.folder / "stranger")
    world.entry(2).write_bytes(line + b"\n" + stranger.sign(Purpose.RELEASE, line))


def _revoked_key(world: World) -> None:
    world.worker.ring.revoke(str(world.store.ring.own_fingerprint()))


def _no_key(world: World) -> None:
    shutil.rmtree(world.folder / "worker")


def _changed(name: str, world: World) -> None:
    path = world.version / name
    path.write_bytes(path.read_bytes()[::-1])


def _missing(name: str, world: World) -> None:
    (world.version / name).unlink()


def _emptied(name: str, world: World) -> None:
    (world.version / name).write_bytes(b"")


def _extra(name: str, world: World) -> None:
    path = world.version / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")


def _extra_folder(world: World) -> None:
    (world.version / "sources" / "more").mkdir()


def _swapped_within(world: World) -> None:
    one, other = world.version / GOLDEN, world.version / "report.html"
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)


def _swapped_with_another_version(world: World) -> None:
    shutil.copy(world.version.with_name("2") / "report.html", world.version / "report.html")


def _another_version(world: World) -> None:
    shutil.rmtree(world.version)
    shutil.copytree(world.version.with_name("2"), world.version)


def _another_model(world: World) -> None:
    world.publish(world.store, "other")
    shutil.rmtree(world.version)
    shutil.copytree(world.folder / "store" / "other" / "versions" / "1", world.version)


def _linked(name: str, world: World) -> None:
    path = world.version / name
    elsewhere = world.folder / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def _linked_above(name: str, world: World) -> None:
    path = world.folder / "store" / name
    elsewhere = world.folder / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def _piped(world: World) -> None:
    (world.version / PIPELINE).unlink()
    os.mkfifo(world.version / PIPELINE)


def _signature_of_a_release(world: World) -> None:
    """The publisher's key has signed these very bytes, as something else."""
    data = (world.version / MANIFEST).read_bytes()
    (world.version / SIGNATURE).write_bytes(world.store.ring.sign(Purpose.RELEASE, data))


def _signature_of_an_artifact(world: World) -> None:
    line = world.entry(2).read_bytes().partition(b"\n")[0]
    world.entry(2).write_bytes(line + b"\n" + world.store.ring.sign(Purpose.ARTIFACT, line))


def _unsigned_release(world: World) -> None:
    world.entry(2).write_bytes(world.entry(2).read_bytes().partition(b"\n")[0])


def _pointer_back_by_removal(world: World) -> None:
    world.entry(2).unlink()


def _pointer_back_by_an_old_entry(world: World) -> None:
    shutil.copy(world.entry(1), world.entry(3))


def _entry_of_another_alias(world: World) -> None:
    for version in (1, 2, 1):
        releases.promote(world.store, "pima", version, "candidate")
    shutil.copy(world.entry(3, "candidate"), world.entry(3))


def _unsigned_rollback(world: World) -> None:
    release = releases.current(world.store, "pima")
    assert release is not None
    back = replace(release, version=2, sequence=3, kind=releases.ROLLBACK, returns_to=1)
    world.entry(3).write_bytes(back.encode())


def _format_1(world: World) -> None:
    old = (
        Path(__file__).resolve().parents[3] / "artifacts" / "format-1" / "loans" / "versions" / "1"
    )
    shutil.rmtree(world.version)
    shutil.copytree(old, world.version)


EVERY = (PIPELINE, GOLDEN, MANIFEST, SIGNATURE, "report.html", "sources/churn/features.py")
NOT_EMPTY = tuple(name for name in EVERY if name != GOLDEN)

ATTACKS: dict[str, list[Attack]] = {
    "unsigned": [_unsigned, _unsigned_release, _unsigned_rollback],
    "unknown key": [_by_an_unknown_key, _released_by_an_unknown_key],
    "revoked key": [_revoked_key],
    "no trusted key": [_no_key],
    "changed file": [partial(_changed, name) for name in NOT_EMPTY],
    "missing file": [partial(_missing, name) for name in EVERY],
    "file of 0 bytes": [partial(_emptied, name) for name in NOT_EMPTY],
    "extra file": [
        *(partial(_extra, name) for name in ("more", ".hidden", "sources/churn/more.py", "a/b/c")),
        _extra_folder,
    ],
    "swapped files": [_swapped_within, _swapped_with_another_version],
    "another version's artifact": [_another_version],
    "another model's artifact": [_another_model],
    "link for a file": [partial(_linked, name) for name in EVERY],
    "link for a folder": [
        *(partial(_linked_above, name) for name in ("pima", "pima/versions", "pima/versions/1")),
        partial(_linked_above, "pima/releases"),
        partial(_linked_above, "pima/releases/production"),
    ],
    "link for a sub-folder": [partial(_linked, name) for name in ("sources", "sources/churn")],
    "pipe for a file": [_piped],
    "signature of another purpose": [_signature_of_a_release, _signature_of_an_artifact],
    "pointer that goes back": [
        _pointer_back_by_removal,
        _pointer_back_by_an_old_entry,
        _entry_of_another_alias,
    ],
    "format 1": [_format_1],
}


def _name(attack: Attack) -> str:
    if isinstance(attack, partial):
        return f"{attack.func.__name__}-{attack.args[0]}"
    return getattr(attack, "__name__", "attack")


def test_300_random_bit_flips_and_truncations_are_300_refusals(world: World) -> None:
    outcome = harm_at_random(world, HARMED)
    refused = [one for outcomes in outcome.values() for one in outcomes]
    assert (len(refused), sum(refused)) == (HARMED, HARMED)
    world.serve()
    assert world.mark.is_dir(), "the control: unharmed again, it is unpickled"


@pytest.mark.parametrize(
    "attack", [one for attacks in ATTACKS.values() for one in attacks], ids=_name
)
def test_an_attack_is_refused_before_a_byte_is_unpickled(world: World, attack: Attack) -> None:
    attack(world)
    assert world.refused()


def test_a_bit_that_flips_in_the_cache_is_fetched_again_and_one_in_the_bucket_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCORELINE_CACHE", str(tmp_path / "cache"))
    world = World(tmp_path)
    store = Store(f"memory://{tmp_path.name}", world.store.ring)
    manifest = world.publish(store)
    load(store, "pima", 1)
    world.mark.rmdir()
    chance = random.Random(SEED)
    cached = sorted(path for path in (tmp_path / "cache" / "files").rglob("*") if path.is_file())
    assert cached
    for _ in range(50):
        path = chance.choice([one for one in cached if one.stat().st_size])
        path.write_bytes(_harmed(path.read_bytes(), chance)[1])
        assert {describe_file(store.read(manifest, name)) for name in manifest.files} == set(
            manifest.files.values()
        )
    shutil.rmtree(tmp_path / "cache")
    system = store.storage._system
    harmable = [
        path for path in system.find(f"/{tmp_path.name}/pima/versions/1") if system.size(path)
    ]
    for _ in range(100):
        path = chance.choice(harmable)
        whole = system.cat_file(path)
        system.pipe_file(path, _harmed(whole, chance)[1])
        with pytest.raises(REFUSALS):
            load(store, "pima", 1)
        system.pipe_file(path, whole)
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    assert not world.mark.exists()


def _table() -> list[tuple[str, int, int]]:
    """Kind, how many, how many of them refused."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        outcome = harm_at_random(make_world(Path(folder)), HARMED)
        rows += [(kind, len(refused), sum(refused)) for kind, refused in outcome.items()]
    for kind, attacks in ATTACKS.items():
        refused = []
        for attack in attacks:
            with tempfile.TemporaryDirectory() as folder:
                world = make_world(Path(folder))
                attack(world)
                refused.append(world.refused())
        rows.append((kind, len(refused), sum(refused)))
    return rows


if __name__ == "__main__":
    for what, tried, refused in _table():
        sys.stdout.write(f"{what:<30} {tried:>4} {refused:>4}\n")
