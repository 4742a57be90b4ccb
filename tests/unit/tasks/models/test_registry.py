"""Which version answers, which are in memory, and what happens to those that cannot be loaded."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from scoreline_artifacts import CorruptArtifact, Release, Store, UnknownVersionError
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_artifacts.manifest import Outputs
from scoreline_artifacts.store.releases import Head
from scoreline_client.errors import RequestRefused
from scoreline_client.protocol.messages import ModelRef
from scoreline_tasks.models import registry as models_module
from scoreline_tasks.models.isolated_load import FIRST_S, LONGEST_S, IsolatedLoadFailed, LoadBackoff
from scoreline_tasks.models.registry import PREVIOUS_KEPT_S, Models
from scoreline_tasks.system import run_in_fork


class Shelf:
    """A store of versions 1 to 9 of every model, whose releases and accidents a test decides."""

    def __init__(self) -> None:
        self.logs: dict[tuple[str, str], list[Release] | Exception] = {}
        self.broken: dict[int, Exception] = {}
        self.now = 0.0
        self.loads: list[int] = []
        self.in_memory: list[int] = []
        """How many versions were in memory whenever another one was loaded."""
        self._alive: weakref.WeakSet[LoadedVersion] = weakref.WeakSet()

    def release(self, version: int, model: str = "m", alias: str = "production") -> None:
        log = self.logs.setdefault((model, alias), [])
        assert isinstance(log, list)
        log.append(Release(model=model, alias=alias, version=version, sequence=len(log) + 1))

    def manifest(self, model: str, version: int) -> None:
        if version > 9:
            raise UnknownVersionError(model, version, list(range(1, 10)))

    def load(self, _store: Store, model: str, version: int, *, strict: bool) -> LoadedVersion:
        self.loads.append(version)
        self.in_memory.append(len(self._alive))
        if version in self.broken:
            raise self.broken[version]
        loaded = _Loaded(
            pipeline=None, model=model, version=version, outputs=Outputs(method="predict")
        )
        self._alive.add(loaded)
        return loaded

    def history(
        self, _store: Any, model: str, alias: str, *, trusted_only: bool = True
    ) -> list[Release]:
        log = self.logs.get((model, alias), [])
        if isinstance(log, Exception):
            raise log
        return log

    def newest(self, store: Any, model: str, alias: str, *, seen: Any) -> Release | None:
        return next(reversed(self.history(store, model, alias)), None)

    def heads(self, _store: Any) -> list[Head]:
        return [
            Head(*alias, len(log) if isinstance(log, list) else 0)
            for alias, log in sorted(self.logs.items())
        ]


class _Loaded(LoadedVersion):
    """One that can be watched while it lives."""

    __slots__ = ("__weakref__",)

    def __hash__(self) -> int:
        return id(self)


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    shelf = Shelf()
    monkeypatch.setattr(models_module, "load", shelf.load)
    monkeypatch.setattr(models_module, "releases", shelf)
    return shelf


@pytest.fixture
def open_models(shelf: Shelf) -> Callable[..., Models]:
    def open_them(**options: Any) -> Models:
        return Models(shelf, 2, clock=lambda: shelf.now, **options)  # type: ignore[arg-type]

    return open_them


@pytest.fixture
def models(open_models: Callable[..., Models]) -> Models:
    return open_models()


def version_of(models: Models, ref: str = "m") -> int:
    return models.resolve(ModelRef.parse(ref)).version


def test_a_release_moves_its_alias(shelf: Shelf, models: Models) -> None:
    shelf.release(1)
    assert models.follow()
    shelf.release(2)
    assert models.follow()
    assert not models.follow()
    assert version_of(models) == 2
    assert models.serving() == {("m", "production"): 2}


def test_no_third_version_is_in_memory_while_the_next_is_loaded(
    shelf: Shelf, models: Models
) -> None:
    for version in range(1, 8):
        shelf.release(version)
        models.follow()
    # Each was loaded beside the one that served, after the one before that had been let go.
    assert shelf.in_memory == [0, 1, 1, 1, 1, 1, 1]
    assert models.report()["m@production"].resident == [7, 6]


def test_versions_that_were_superseded_meanwhile_are_not_loaded(
    shelf: Shelf, models: Models
) -> None:
    for version in range(1, 8):
        shelf.release(version)
    models.follow()
    assert shelf.loads == [7]


def test_a_pinned_job_finds_the_version_before_in_memory(shelf: Shelf, models: Models) -> None:
    for version in (1, 2):
        shelf.release(version)
        models.follow()
    assert version_of(models, "m@1") == 1
    assert shelf.loads == [1, 2]


def test_going_back_to_the_version_before_loads_nothing(shelf: Shelf, models: Models) -> None:
    for version in (1, 2, 1):
        shelf.release(version)
        models.follow()
    assert version_of(models) == 1
    assert models.report()["m@production"].resident == [1, 2]
    assert shelf.loads == [1, 2]


def test_the_version_before_is_let_go_when_nobody_asked_for_it_in_a_while(
    shelf: Shelf, models: Models
) -> None:
    for version in (1, 2):
        shelf.release(version)
        models.follow()
    shelf.now += PREVIOUS_KEPT_S
    version_of(models, "m@1")
    shelf.now += PREVIOUS_KEPT_S
    models.evict_idle()
    assert models.report()["m@production"].resident == [2, 1]
    shelf.now += 1
    models.evict_idle()
    assert models.report()["m@production"].resident == [2]


def test_versions_asked_by_number_are_kept_up_to_a_limit(shelf: Shelf, models: Models) -> None:
    shelf.release(9)
    models.follow()
    for version in (1, 2, 1, 3, 1):
        version_of(models, f"m@{version}")
    assert shelf.loads == [9, 1, 2, 3]
    version_of(models, "m@2")
    assert shelf.loads == [9, 1, 2, 3, 2]


def test_a_refused_version_is_tried_again_later_and_later(shelf: Shelf, models: Models) -> None:
    shelf.release(1)
    models.follow()
    shelf.broken[2] = RuntimeError("no")
    shelf.release(2)
    models.follow()
    assert models.report()["m@production"].refused == "RuntimeError: no"
    shelf.now += FIRST_S - 1
    assert not models.follow()
    assert shelf.loads == [1, 2]
    shelf.now += 1
    models.follow()
    assert shelf.loads == [1, 2, 2]
    shelf.now += FIRST_S
    models.follow()
    assert shelf.loads == [1, 2, 2]
    shelf.now += FIRST_S
    del shelf.broken[2]
    models.follow()
    assert version_of(models) == 2
    assert models.report()["m@production"].refused is None


def test_the_time_until_a_refused_version_is_tried_again_has_a_limit() -> None:
    now = 0.0
    backoff = LoadBackoff(lambda: now)
    for _ in range(20):
        backoff.note("m", 1, "no")
    now += LONGEST_S
    assert backoff.reason("m", 1) is None


def test_a_refusal_is_logged_once_for_each_reason(
    shelf: Shelf, models: Models, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    shelf.release(1)
    shelf.broken[1] = RuntimeError("no")
    for _ in range(5):
        models.follow()
        shelf.now += LONGEST_S
    shelf.broken[1] = RuntimeError("still not")
    models.follow()
    assert [record.getMessage().split(": ")[-1] for record in caplog.records] == [
        "no",
        "still not",
    ]


def test_a_worker_that_starts_with_a_bad_release_serves_the_one_before(
    shelf: Shelf, models: Models
) -> None:
    shelf.broken = {2: RuntimeError("no"), 3: RuntimeError("neither")}
    for version in (1, 2, 3):
        shelf.release(version)
    models.follow()
    served = models.report()["m@production"]
    assert (served.serving, served.wanted, served.refused) == (1, 3, "RuntimeError: neither")


def test_a_release_log_that_cannot_be_read_keeps_no_other_alias_from_moving(
    shelf: Shelf, models: Models, caplog: pytest.LogCaptureFixture
) -> None:
    for alias in ("candidate", "production"):
        shelf.release(1, alias=alias)
    models.follow()
    shelf.logs["m", "candidate"] = CorruptArtifact("log", "scribbled over")
    shelf.release(2)
    assert models.follow()
    assert not models.follow()
    assert models.serving() == {("m", "candidate"): 1, ("m", "production"): 2}
    candidate = models.report()["m@candidate"]
    assert candidate.wanted is None
    assert "scribbled over" in str(candidate.refused)
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1
    shelf.logs["m", "candidate"] = [
        Release(model="m", alias="candidate", version=1, sequence=1),
    ]
    assert models.follow()
    assert models.report()["m@candidate"].refused is None


def test_a_request_for_an_alias_whose_log_cannot_be_read_says_so(
    shelf: Shelf, models: Models
) -> None:
    shelf.logs["m", "production"] = CorruptArtifact("log", "scribbled over")
    with pytest.raises(RequestRefused, match="scribbled over"):
        version_of(models)


def test_a_version_is_proven_once(shelf: Shelf, open_models: Callable[..., Models]) -> None:
    proven: list[int] = []
    models = open_models(prove=lambda _store, _model, version: proven.append(version))
    for version in (1, 2, 3, 1):
        shelf.release(version)
        models.follow()
    assert shelf.loads == [1, 2, 3, 1]
    assert proven == [1, 2, 3]


def test_a_version_that_fails_its_trial_is_never_loaded_here(
    shelf: Shelf, open_models: Callable[..., Models]
) -> None:
    def prove(_store: Any, _model: str, version: int) -> None:
        if version == 2:
            raise IsolatedLoadFailed("loading it in a trial process ended with signal SIGSEGV")

    models = open_models(prove=prove)
    for version in (1, 2):
        shelf.release(version)
        models.follow()
    assert shelf.loads == [1]
    assert version_of(models) == 1
    for _ in range(2):
        with pytest.raises(RequestRefused, match="SIGSEGV"):
            version_of(models, "m@2")


def test_a_version_that_does_not_exist_is_not_tried(
    shelf: Shelf, open_models: Callable[..., Models]
) -> None:
    models = open_models(prove=lambda *_: pytest.fail("it was tried"))
    with pytest.raises(RequestRefused) as caught:
        version_of(models, "m@12")
    assert caught.value.code == "E_UNKNOWN_MODEL"


def test_a_process_that_was_forked_in_the_middle_of_a_load_can_load(
    shelf: Shelf, models: Models
) -> None:
    shelf.release(1)
    locked, done = threading.Event(), threading.Event()

    def load() -> None:
        with models._lock:
            locked.set()
            done.wait()

    thread = threading.Thread(target=load)
    thread.start()
    locked.wait()
    try:
        assert run_in_fork(models.follow, 20) is True
    finally:
        done.set()
        thread.join()
