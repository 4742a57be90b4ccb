"""What a version does while it is loaded for the first time happens to no process that serves."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from scoreline_artifacts import GoldenMismatch
from scoreline_tasks.models import isolated_load
from scoreline_tasks.models.isolated_load import (
    MIB,
    IsolatedLoad,
    IsolatedLoadFailed,
    available_memory,
)

STORE: Any = None


@pytest.fixture
def attempt(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Try a version whose loading is a function of the test's."""

    def run(load: Callable[[], Any], limit_s: float = 30, memory_mb: int = 2000) -> None:
        monkeypatch.setattr(isolated_load, "load", lambda *_, **__: load())
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
