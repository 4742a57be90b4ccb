"""Several hosts, a few faults of their network; `make faults` goes through all of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults.hosts import why_not

pytestmark = [pytest.mark.acceptance, pytest.mark.exhaustive, pytest.mark.timeout(300)]


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
def test_hosts_that_are_cut_off_or_vanish_break_no_promise(holds: Callable[[str], None]) -> None:
    holds("F20")
