"""Faults of processes and releases, a few times each; `make faults` counts them in full."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(240)]


@pytest.mark.parametrize("name", ["F1", "F3", "F13", "F14", "F16", "F2", "F9", "F10", "F15"])
def test_a_fault_of_processes_breaks_no_promise(holds: Callable[[str], None], name: str) -> None:
    holds(name)
