"""Which version answers, which are in memory, and what happens to those that cannot be loaded."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scoreline_artifacts import CorruptArtifact, Release, Store
from scoreline_artifacts.loading import process_settings
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_client.errors import RequestRefused
from scoreline_client.protocol.messages import ModelRef
from scoreline_tasks.models import registry
from scoreline_tasks.models.isolated_load import (
    FIRST_S,
    LONGEST_S,
    REMEMBERED,
    IsolatedLoadFailed,
    LoadBackoff,
    TrialResult,
)
from scoreline_tasks.models.registry import PREVIOUS_KEPT_S, VAIN_SEARCHES, Models
from scoreline_tasks.scoring.batch import VersionIsLoading
from scoreline_tasks.system import fork_guard, run_in_fork
from tests.support.stores import manifest_of
from tests.unit.tasks.models.conftest import Shelf


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

    def prove(_store: Any, _model: str, version: int) -> TrialResult:
        proven.append(version)
        return TrialResult()

    models = open_models(prove=prove)
    for version in (1, 2, 3, 1):
        shelf.release(version)
        models.follow()
    assert shelf.loads == [1, 2, 3, 1]
    assert proven == [1, 2, 3]


def test_a_version_that_fails_its_trial_is_never_loaded_here(
    shelf: Shelf, open_models: Callable[..., Models]
) -> None:
    def prove(_store: Any, _model: str, version: int) -> TrialResult:
        if version == 2:
            raise IsolatedLoadFailed("loading it in a trial process ended with signal SIGSEGV")
        return TrialResult()

    models = open_models(prove=prove)
    for version in (1, 2):
        shelf.release(version)
        models.follow()
    assert shelf.loads == [1]
    assert version_of(models) == 1
    for _ in range(2):
        with pytest.raises(RequestRefused, match="SIGSEGV"):
            version_of(models, "m@2")


def test_a_version_that_asks_its_process_to_end_is_refused_like_any_other(
    shelf: Shelf, models: Models
) -> None:
    shelf.release(1)
    models.follow()
    shelf.broken[2] = SystemExit(4)  # type: ignore[assignment]
    shelf.release(2)
    models.follow()
    assert version_of(models) == 1
    assert "sys.exit(4)" in (models.report()["m@production"].refused or "")


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


def test_refused_versions_are_remembered_up_to_a_limit() -> None:
    backoff = LoadBackoff(lambda: 0.0)
    for version in range(REMEMBERED + 10):
        backoff.note("m", version, "no")
    assert backoff.reason("m", 0) is None
    assert backoff.reason("m", REMEMBERED + 9) == "no"


def _deferring(_store: Any, _model: str, version: int) -> TrialResult:
    return TrialResult(not_inherited="a fork hangs" if version == 2 else None)


def test_a_main_process_leaves_a_version_that_forks_cannot_score_to_its_children(
    shelf: Shelf, open_models: Callable[..., Models]
) -> None:
    models = open_models(prove=_deferring, forks=True)
    for version in (1, 2):
        shelf.release(version)
        models.follow()
    assert shelf.loads == [1]
    assert models.serving() == {("m", "production"): 2}
    report = models.report()["m@production"]
    assert (report.serving, report.wanted, report.deferred) == (None, 2, "a fork hangs")
    models.forked()
    assert version_of(models) == 2
    assert version_of(models, "m@2") == 2
    assert shelf.loads == [1, 2]
    assert models.report()["m@production"].serving == 2


def test_a_child_that_cannot_load_what_was_deferred_says_why(
    shelf: Shelf, open_models: Callable[..., Models]
) -> None:
    models = open_models(prove=_deferring, forks=True)
    shelf.release(2)
    models.follow()
    models.forked()
    shelf.broken[2] = RuntimeError("no room")
    for _ in range(2):
        with pytest.raises(RequestRefused, match="no room"):
            version_of(models)
    assert shelf.loads == [2]
    assert models.report()["m@production"].refused == "RuntimeError: no room"


def test_a_process_that_was_forked_before_a_load_was_done_does_it_itself(
    shelf: Shelf, open_models: Callable[..., Models]
) -> None:
    shelf.release(1)
    seen: list[int] = []
    here = os.getpid()

    def prove(_store: Any, _model: str, _version: int) -> TrialResult:
        # A child that is forked now knows of the release, and has nothing in memory.
        if os.getpid() == here:
            seen.append(run_in_fork(lambda: version_of(models), 20))
        return TrialResult()

    models = open_models(prove=prove)
    models.follow()
    assert seen == [1]


def _eventually_version(models: Models, ref: str, eventually: Callable[..., Any]) -> int:
    def loaded() -> int | None:
        try:
            return version_of(models, ref)
        except VersionIsLoading:
            return None

    found: int = eventually(loaded)
    return found


def test_what_is_not_in_memory_is_loaded_aside_and_stops_nobody(
    shelf: Shelf, open_models: Callable[..., Models], eventually: Callable[..., Any]
) -> None:
    go_on = threading.Event()

    def prove(_store: Any, _model: str, version: int) -> TrialResult:
        if version == 3:
            go_on.wait(20)
        return TrialResult()

    models = open_models(prove=prove)
    shelf.release(9)
    models.follow()
    models.load_aside()
    with pytest.raises(VersionIsLoading):
        version_of(models, "m@3")
    assert version_of(models) == 9
    # A release that comes meanwhile does not wait for it, and neither does who asks for it.
    shelf.release(5, alias="candidate")
    assert _eventually_version(models, "m@candidate", eventually) == 5
    shelf.release(8)
    models.follow()
    assert version_of(models) == 8
    go_on.set()
    assert _eventually_version(models, "m@3", eventually) == 3


def test_who_asks_for_what_cannot_be_loaded_aside_learns_why(
    shelf: Shelf, models: Models, eventually: Callable[..., Any]
) -> None:
    shelf.broken[3] = CorruptArtifact("pipeline.dill", "scribbled over")
    models.load_aside()
    for ref, reason in (("m@3", "scribbled over"), ("m@12", "version 12"), ("nobody", "nobody")):

        def refused(ref: str = ref) -> str | None:
            try:
                version_of(models, ref)
            except VersionIsLoading:
                return None
            except RequestRefused as refusal:
                return refusal.message
            return None

        assert reason in eventually(refused)


def test_versions_in_a_circle_are_loaded_one_by_one_and_each_is_used(
    shelf: Shelf, models: Models, eventually: Callable[..., Any]
) -> None:
    models.load_aside()
    for version in range(1, 9):
        with pytest.raises(VersionIsLoading):
            version_of(models, f"m@{version}")
    for version in range(1, 9):
        assert _eventually_version(models, f"m@{version}", eventually) == version


def test_what_was_deferred_to_a_process_is_loaded_before_it_is_ready(
    shelf: Shelf, open_models: Callable[..., Models], eventually: Callable[..., Any]
) -> None:
    models = open_models(prove=_deferring, forks=True)
    shelf.release(2)
    models.follow()
    models.forked()
    ready: list[list[int]] = []
    models.load_aside(on_ready=lambda: ready.append(list(shelf.loads)))
    assert eventually(lambda: ready) == [[2]]
    assert version_of(models) == 2


def test_a_process_is_ready_although_the_store_is_away_while_it_loads_what_was_deferred_to_it(
    shelf: Shelf,
    open_models: Callable[..., Models],
    eventually: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    models = open_models(prove=_deferring, forks=True)
    shelf.release(2)
    models.follow()
    models.forked()
    find = models._find
    errors = [OSError("the store is away")]

    def find_or_fail(ref: ModelRef, asked_at: float = 0.0) -> LoadedVersion:
        if errors:
            raise errors.pop()
        return find(ref)

    monkeypatch.setattr(models, "_find", find_or_fail)
    ready: list[bool] = []
    models.load_aside(on_ready=lambda: ready.append(True))
    assert eventually(lambda: ready)
    with pytest.raises(VersionIsLoading):
        version_of(models)
    assert _eventually_version(models, "m@production", eventually) == 2


def test_a_process_forks_while_it_loads_a_version(
    shelf: Shelf, open_models: Callable[..., Models]
) -> None:
    """A child that dies meanwhile is replaced by one that has what there was before."""
    models = open_models(forks=True)
    shelf.release(1)
    models.follow()
    loading, go_on = threading.Event(), threading.Event()
    load = shelf.load_unproven

    def slowly(*arguments: Any, **options: Any) -> Any:
        loading.set()
        go_on.wait()
        return load(*arguments, **options)

    shelf.release(2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scoreline_tasks.models.registry.load_unproven", slowly)
        thread = threading.Thread(target=models.follow)
        thread.start()
        loading.wait()
        try:
            assert run_in_fork(lambda: version_of(models), 20) == 1
        finally:
            go_on.set()
            thread.join()
    assert version_of(models) == 2


def test_a_pipeline_that_forks_while_it_is_scored_does_not_wait_for_a_load_that_waits_for_it(
    shelf: Shelf, open_models: Callable[..., Models]
) -> None:
    """A load keeps forks away; one that has to be alone waits until nothing is scored, and must not do so before."""
    models = open_models(prove=lambda *_: TrialResult(is_exclusive=True))
    shelf.release(1)
    scoring, loading = threading.Event(), threading.Thread(target=models.follow, daemon=True)

    def score_and_fork() -> None:
        with process_settings._gate().shared():
            scoring.set()
            while not process_settings._gate()._waiting:
                time.sleep(0.001)
            with fork_guard():  # as every fork does
                pass

    forking = threading.Thread(target=score_and_fork, daemon=True)
    forking.start()
    scoring.wait()
    loading.start()
    forking.join(10)
    loading.join(10)
    assert not forking.is_alive()
    assert version_of(models) == 1


def test_by_number_requests_may_name_what_is_or_was_released(
    shelf: Shelf, open_models: Callable[..., Models]
) -> None:
    models = open_models(unreleased=False)
    for version in (1, 2, 3):
        shelf.release(version)
    models.follow()
    assert [version_of(models, f"m@{version}") for version in (1, 3)] == [1, 3]
    with pytest.raises(
        RequestRefused, match=r"m@7 is not released.*versions 1, 2, 3\..*SCORELINE_SERVE_UNRELEASED"
    ) as caught:
        version_of(models, "m@7")
    assert caught.value.code == "E_UNKNOWN_MODEL"
    assert shelf.loads == [3, 1]
    assert version_of(open_models(), "m@7") == 7


def test_a_wrong_name_tells_neither_where_the_store_is_nor_what_else_is_in_it(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path / "store")
    store.publish(manifest_of({"note": b"text"}, 1, "fraud-2027"), {"note": b"text"})
    for ref in ("nosuch", "nosuch@1", "nosuch@candidate", "fraud-2027@candidate"):
        with pytest.raises(RequestRefused) as caught:
            Models(store, 2, unreleased=True).resolve(ModelRef.parse(ref))
        assert caught.value.code == "E_UNKNOWN_MODEL"
        assert str(tmp_path) not in str(caught.value)
        assert ("fraud" in str(caught.value)) == ("fraud" in ref)


def test_wrong_names_cost_few_searches_a_second_where_every_version_may_be_named(
    shelf: Shelf, open_models: Callable[..., Models]
) -> None:
    searched: list[int] = []

    def verified(model: str, version: int, sha256: str | None = None) -> None:
        searched.append(version)
        Shelf.verified(shelf, model, version, sha256)

    shelf.verified = verified  # type: ignore[method-assign]
    models = open_models(unreleased=True)
    for number in range(500):
        with pytest.raises(RequestRefused) as caught:
            version_of(models, f"wrong{number}@{number + 10}")
        assert caught.value.code == "E_UNKNOWN_MODEL"
    assert len(searched) == VAIN_SEARCHES
    shelf.now += 1
    assert version_of(models, "m@7") == 7


def test_wrong_names_cost_the_store_one_look_a_second_however_many_there_are(
    shelf: Shelf, open_models: Callable[..., Models]
) -> None:
    models = open_models(unreleased=False)
    shelf.release(1)
    models.follow()
    shelf.looks = 0
    for number in range(500):
        for ref in (f"wrong{number}", f"m@wrong{number}", f"wrong@{number + 2}", f"m@{number + 2}"):
            with pytest.raises(RequestRefused):
                version_of(models, ref)
    # The names of all logs, and the versions of the only model that there is.
    assert shelf.looks == 2
    shelf.now += 1
    shelf.release(2, alias="wrong1")
    assert version_of(models, "m@wrong1") == 2


@pytest.mark.parametrize("ref", ["new{}", "m@new{}", "m@{}", "new{}@1"])
def test_what_is_released_right_before_it_is_asked_for_is_found(
    ref: str, shelf: Shelf, open_models: Callable[..., Models]
) -> None:
    models = open_models(unreleased=False)
    shelf.release(9)
    models.follow()
    for number in range(1, 5):
        asked = ModelRef.parse(ref.format(number))
        with pytest.raises(RequestRefused):
            models.resolve(asked, shelf.now)
        shelf.now += 0.01
        version = asked.version or number
        shelf.release(version, model=asked.name, alias=asked.alias or f"new{number}")
        assert models.resolve(asked, shelf.now).version == version
        shelf.now += 0.01


def test_who_asked_before_a_release_keeps_nobody_from_it(
    shelf: Shelf, models: Models, eventually: Callable[..., Any]
) -> None:
    models.load_aside()
    asked = ModelRef.parse("new")

    def answer(asked_at: float) -> str | None:
        try:
            return str(models.resolve(asked, asked_at).version)
        except VersionIsLoading:
            return None
        except RequestRefused as refusal:
            return refusal.code

    assert eventually(lambda: answer(shelf.now)) == "E_UNKNOWN_MODEL"
    before = shelf.now
    shelf.now += 0.01
    shelf.release(3, model="new")
    assert answer(before) == "E_UNKNOWN_MODEL"
    assert eventually(lambda: answer(shelf.now)) == "3"


def test_wrong_names_that_come_together_cost_the_store_two_looks(
    shelf: Shelf, models: Models, eventually: Callable[..., Any]
) -> None:
    shelf.release(1)
    models.follow()
    models.load_aside()
    shelf.looks = 0
    came = []
    for number in range(200):
        shelf.now += 0.001
        came.append((ModelRef.parse(f"wrong{number}"), shelf.now))
    shelf.now += 0.001

    def waiting() -> list[str]:
        waiting = []
        for ref, asked_at in came:
            try:
                models.resolve(ref, asked_at)
            except VersionIsLoading as loading:
                waiting.append(str(loading))
            except RequestRefused:
                pass
        return waiting

    eventually(lambda: not waiting())
    assert shelf.looks == 1


def test_many_models_are_loaded_some_at_a_time(
    shelf: Shelf, open_models: Callable[..., Models], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(175):
        shelf.release(1, f"m{number:03}")

    def slowly(*version: Any, **how: Any) -> Any:
        shelf.now += 0.5
        return shelf.load_unproven(*version, **how)

    monkeypatch.setattr(registry, "load_unproven", slowly)
    asked: set[str] = set()
    models = open_models(asked=asked)
    assert models.follow(2.0)
    assert len(models.serving()) == 4
    assert models.unloaded == 171
    # A request has its version at once; what others of the worker have needed meanwhile comes before all else.
    asked.add("m170")
    assert version_of(models, "m174") == 1
    shelf.release(2, "m001")
    models.follow(1.0)
    assert models.serving()["m170", "production"] == 1
    assert models.serving()["m001", "production"] == 2
    assert not asked
    while models.unloaded:
        models.follow(60.0)
    assert len(models.serving()) == 175
    assert not models.follow(2.0)


def test_one_version_is_loaded_however_little_time_there_is(shelf: Shelf, models: Models) -> None:
    shelf.release(1, "a")
    shelf.release(1, "b")
    assert models.follow(0.0)
    assert list(models.serving()) == [("a", "production")]


def test_a_request_waits_for_one_load_and_not_for_all_that_are_to_be_loaded(
    shelf: Shelf, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abcdefgh":
        shelf.release(1, name)
    begun, go_on = threading.Event(), threading.Event()

    def load(store: Store, model: str, version: int, **how: Any) -> Any:
        if model == "a":
            begun.set()
            go_on.wait(10)
        order.append(model)
        return shelf.load_unproven(store, model, version, **how)

    order: list[str] = []
    monkeypatch.setattr(registry, "load_unproven", load)
    follower = threading.Thread(target=models.follow)
    follower.start()
    assert begun.wait(10)
    asker = threading.Thread(target=version_of, args=(models, "h"))
    asker.start()
    while not models._turn.locked():
        time.sleep(0.001)
    go_on.set()
    asker.join(10)
    follower.join(10)
    assert order == ["a", "h", *"bcdefg"]


def test_only_models_that_are_to_be_served_are_loaded_and_answered_for(
    shelf: Shelf, open_models: Callable[..., Models]
) -> None:
    for name in ("fraud-a", "fraud-b", "loans", "pima"):
        shelf.release(1, name)
    models = open_models(only=["fraud-*", "pima"])
    models.follow()
    assert [model for model, _ in models.serving()] == ["fraud-a", "fraud-b", "pima"]
    for ref in ("loans", "loans@1", "loans@candidate"):
        with pytest.raises(RequestRefused, match="no worker of this queue serves model 'loans'"):
            version_of(models, ref)
    assert version_of(models, "fraud-b@1") == 1
    assert models.idle == []


def test_patterns_that_no_released_model_fits_are_known(
    shelf: Shelf, open_models: Callable[..., Models]
) -> None:
    shelf.release(1, "pima")
    models = open_models(only=["pima", "loan-*"])
    models.follow()
    assert models.idle == ["loan-*"]
    shelf.release(1, "loan-a")
    models.follow()
    assert models.idle == []
