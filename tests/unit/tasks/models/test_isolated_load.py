"""What a version does while it is loaded for the first time happens to no process that serves."""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import os
import queue
import resource
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from scoreline_artifacts import GoldenMismatch
from scoreline_artifacts.loading.process_settings import ProcessSettings
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_tasks.models import isolated_load
from scoreline_tasks.models.isolated_load import (
    MIB,
    IsolatedLoad,
    IsolatedLoadFailed,
    ServedBy,
    TrialResult,
    available_memory,
)
from tests.support.models import Predictor

STORE: Any = None


@pytest.fixture
def attempt(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Try a version whose loading is a function of the test's."""

    def run(load: Callable[[], Any], limit_s: float = 30, memory_mb: int = 2000) -> None:
        # What is loaded has no settings, and its golden rows are right.
        made = LoadedVersion.of(Predictor(lambda frame: frame["x"]), "m")
        monkeypatch.setattr(
            isolated_load, "load_unproven", lambda *_, **__: (load(), (made, lambda: None))[1]
        )
        IsolatedLoad(limit_s, memory_mb * MIB).run(STORE, "m", 1)

    return run


def _fault() -> None:
    faulthandler.disable()  # its report would look like that of a failed test
    ctypes.string_at(0)


def _exit() -> None:
    os._exit(0)


def _sys_exit() -> None:
    sys.exit("enough")


def _hang() -> None:
    time.sleep(60)


def _hunger() -> Any:
    return [np.ones(10 * MIB // 8) for _ in range(1000)]


def _hunger_that_is_told_otherwise() -> Any:
    try:
        return _hunger()
    except MemoryError as error:
        raise ValueError("this pickle is no good") from error


def _other_answers() -> None:
    raise GoldenMismatch("m", 1, 3, 0.5, 0.7)


def test_a_version_that_loads_is_proven(attempt: Callable[..., None]) -> None:
    attempt(lambda: np.ones(10 * MIB // 8))


@pytest.mark.parametrize(
    ("load", "reason"),
    [
        (_fault, "loading it in a trial process ended with signal SIGSEGV"),
        (_exit, "loading it in a trial process ended with exit code 0"),
        (_sys_exit, "SystemExit: enough"),
        (_other_answers, "GoldenMismatch: m@1 fails its golden rows"),
    ],
)
def test_what_went_wrong_is_the_reason(
    attempt: Callable[..., None], load: Callable[[], None], reason: str
) -> None:
    with pytest.raises(IsolatedLoadFailed, match=reason):
        attempt(load)


def test_a_version_that_takes_too_long_is_ended(attempt: Callable[..., None]) -> None:
    with pytest.raises(IsolatedLoadFailed, match=r"longer than 0\.2 s \(SCORELINE_LOAD_LIMIT_S\)"):
        attempt(_hang, limit_s=0.2)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not enforce the limit")
@pytest.mark.parametrize("load", [_hunger, _hunger_that_is_told_otherwise])
def test_a_version_that_takes_too_much_memory_is_ended(
    attempt: Callable[..., None], load: Callable[[], None]
) -> None:
    reason = r"needed more than 100 MiB of memory \(SCORELINE_LOAD_LIMIT_MB\)"
    with pytest.raises(IsolatedLoadFailed, match=reason):
        attempt(load, memory_mb=100)


def test_this_process_keeps_its_own_limits(attempt: Callable[..., None]) -> None:
    kinds = (resource.RLIMIT_DATA, resource.RLIMIT_CORE)
    before = [os.nice(0), *map(resource.getrlimit, kinds)]
    attempt(lambda: None)
    assert [os.nice(0), *map(resource.getrlimit, kinds)] == before


def test_without_a_limit_half_of_the_memory_may_be_used() -> None:
    assert IsolatedLoad.within(1, 0).memory_bytes == available_memory() // 2
    assert 0 < available_memory() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


Check = Callable[[], None]


@pytest.fixture
def trial(monkeypatch: pytest.MonkeyPatch) -> Callable[..., TrialResult]:
    """Try a version whose loading gives a test's function for the check of its golden rows."""

    def run(load: Callable[[], Check], served_by: ServedBy, limit_s: float = 30) -> TrialResult:
        made = LoadedVersion.of(Predictor(lambda frame: frame["x"]), "m")
        monkeypatch.setattr(isolated_load, "load_unproven", lambda *_, **__: (made, load()))
        return IsolatedLoad(limit_s, 2000 * MIB, served_by=served_by).run(STORE, "m", 1)

    return run


def _server_thread() -> Check:
    """A check that a thread answers which loading has started."""
    asked, answered = queue.Queue(), queue.Queue()  # type: ignore[var-annotated]

    def serve() -> None:
        while True:
            answered.put(asked.get())

    threading.Thread(target=serve, daemon=True).start()

    def check() -> None:
        asked.put(1)
        answered.get()

    return check


def test_what_does_not_survive_a_fork_is_not_inherited(
    trial: Callable[..., TrialResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolated_load, "LONGER_IN_A_FORK_S", 0.3)
    assert "did not finish in time" in str(trial(_server_thread, ServedBy.FORKS).not_inherited)


def test_a_slow_version_whose_fork_hangs_is_deferred_within_the_trials_limit(
    trial: Callable[..., TrialResult],
) -> None:
    def load() -> Check:
        check = _server_thread()

        def slow() -> None:
            check()
            time.sleep(0.5)

        return slow

    # Its fork may take 5 s more than four times as long, which is more than the trial has.
    assert "did not finish in time" in str(trial(load, ServedBy.FORKS, limit_s=6).not_inherited)


def test_a_trial_names_the_settings_that_a_version_changes(
    trial: Callable[..., TrialResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ProcessSettings()
    with settings.recorded():
        pd.set_option("display.max_colwidth", 7)
    monkeypatch.setattr(LoadedVersion, "settings", settings)
    result = trial(lambda: lambda: None, ServedBy.MAIN_THREAD)
    assert (result.settings, result.is_exclusive) == (["pandas: display.max_colwidth"], True)


@pytest.mark.parametrize("served_by", [ServedBy.MAIN_THREAD, ServedBy.THREADS])
def test_where_nothing_forks_afterwards_threads_are_no_matter(
    trial: Callable[..., TrialResult], served_by: ServedBy
) -> None:
    assert trial(_server_thread, served_by).not_inherited is None


@pytest.mark.parametrize(
    ("served_by", "is_main"),
    [(ServedBy.FORKS, True), (ServedBy.MAIN_THREAD, True), (ServedBy.THREADS, False)],
)
def test_golden_rows_are_scored_in_the_kind_of_thread_that_serves_and_not_in_that_which_loaded(
    trial: Callable[..., TrialResult], served_by: ServedBy, *, is_main: bool
) -> None:
    def load() -> Check:
        loading = threading.current_thread()

        def check() -> None:
            here = threading.current_thread()
            assert here is not loading
            assert (here is threading.main_thread()) is is_main

        return check

    result = trial(load, served_by)
    assert result.not_inherited is None


def test_what_scoring_imports_is_told(trial: Callable[..., TrialResult]) -> None:
    def load() -> Check:
        def check() -> None:
            importlib.import_module("colorsys")

        return check

    sys.modules.pop("colorsys", None)
    assert "colorsys" in trial(load, ServedBy.FORKS).imports


def test_a_check_that_never_ends_is_ended(trial: Callable[..., TrialResult]) -> None:
    with pytest.raises(IsolatedLoadFailed, match="took longer than"):
        trial(lambda: _hang, ServedBy.FORKS, limit_s=0.5)
