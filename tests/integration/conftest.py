"""Fixtures of the tests that need the private Valkey."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from redis import Redis

from scoreline_client import AsyncClient, Client, ClientSettings
from tests.support.worker import StubWorker


@pytest.fixture
def worker(redis_client: Redis) -> StubWorker:
    """A worker that answers when it is told to."""
    return StubWorker(redis_client)


@pytest.fixture
async def client(client_settings: ClientSettings) -> AsyncIterator[AsyncClient]:
    """An asyncio client of the private server."""
    async with AsyncClient(settings=client_settings) as client:
        yield client


@pytest.fixture
def sync_client(client_settings: ClientSettings) -> Iterator[Client]:
    """A client for threads, of the private server."""
    with Client(settings=client_settings) as client:
        yield client
