"""Faults of the server and the network, a few times each; `make faults` counts them in full."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(240)]


NAMES = ["F4", "F4b", "F5", "F7", "F8", "F11", "F17", "F18", "F6c", "F6w"]


@pytest.mark.parametrize("name", NAMES)
def test_a_fault_of_the_server_breaks_no_promise(holds: Callable[[str], None], name: str) -> None:
    holds(name)
