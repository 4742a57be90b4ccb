"""What `help` says of the client, in a program or a notebook."""

from __future__ import annotations

import inspect

import pytest

from scoreline_client import AsyncClient, AsyncJob, Client, Job
from scoreline_client.testing import FakeScoreline
from tests.support.models import Classifier

ALONE = "`progress` is called from the client's own thread."
"""What is so of the blocking client alone."""
METHODS = [
    (kind, other, name)
    for kind, other in ((Client, AsyncClient), (Job, AsyncJob))
    for name, _ in inspect.getmembers(kind, inspect.isfunction)
    if not name.startswith("_") and hasattr(other, name) and name not in ("run", "close")
]


@pytest.mark.parametrize(("kind", "other", "name"), METHODS)
def test_a_blocking_method_is_described_as_whole_as_the_one_with_await(
    kind: type, other: type, name: str
) -> None:
    text = inspect.getdoc(getattr(kind, name)) or ""
    assert text.replace(f"\n{ALONE}", "") == inspect.getdoc(getattr(other, name))


def test_clients_are_short_and_without_a_password() -> None:
    url = "redis://user:secret@queue.internal:6379/0"
    assert repr(Client(url)) == "<Client of queue default at redis://queue.internal:6379/0>"
    asked = AsyncClient(url, queue="loans")
    assert repr(asked) == "<AsyncClient of queue loans at redis://queue.internal:6379/0>"


def test_a_fake_is_shown_with_what_it_serves() -> None:
    with FakeScoreline() as scoreline:
        assert repr(scoreline) == "<FakeScoreline: no model>"
        scoreline.add("size", Classifier(lambda frame: frame["x"] > 10, ("low", "high")))
        assert repr(scoreline) == "<FakeScoreline: size@production 1>"
        shown = "<Client of queue default at a connection that it was given>"
        assert repr(scoreline.client()) == shown
