"""Fixtures of the tests of training."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.publishing import clean_room_in_this_process, no_report


@pytest.fixture
def cheap_publishing() -> Iterator[None]:
    """Neither an isolated interpreter nor a report, for tests that publish and are about neither."""
    with clean_room_in_this_process(), no_report():
        yield
