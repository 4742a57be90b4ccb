"""A fake Scoreline that serves two models, and a gateway in front of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from scoreline_client.testing import FakeScoreline
from scoreline_gateway.app import Gateway
from tests.support.asgi import gateway
from tests.support.http_models import serve_models


@pytest.fixture(scope="package")
def scoreline() -> Iterator[FakeScoreline]:
    """A worker that serves `pima` and `visits`, as version 3 of each."""
    with FakeScoreline() as fake:
        serve_models(fake)
        yield fake


@pytest.fixture
async def app(scoreline: FakeScoreline) -> AsyncIterator[Gateway]:
    """A gateway with the settings that it has by default."""
    async with gateway(scoreline) as running:
        yield running
