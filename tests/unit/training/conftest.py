"""Fixtures of the tests of training."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import publishing


@pytest.fixture
def clean_room_in_this_process() -> Iterator[None]:
    """A clean room without an interpreter of its own, for tests that publish and are not about isolation."""
    with publishing.clean_room_in_this_process():
        yield
