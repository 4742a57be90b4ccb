"""The watchdog on Celery's timer, whose loop must not end with any failure of a check."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from scoreline_tasks import celery
from scoreline_tasks.celery import DRAIN, MISSED_CHECKS, DrainWatchdog


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The workers to which a drain was sent; sending the first of them fails."""
    nodes: list[str] = []

    def send(node: str, _number: int) -> None:
        nodes.append(node)
        if len(nodes) == 1:
            raise AssertionError("such as Celery's own loop ends with")

    monkeypatch.setattr(celery, "send_drain", send)
    return nodes


def test_it_checks_again_after_any_failure(
    monkeypatch: pytest.MonkeyPatch, sent: list[str]
) -> None:
    watchdog = DrainWatchdog(SimpleNamespace())
    for _ in range(MISSED_CHECKS):
        watchdog.check("w@h")
    with monkeypatch.context() as broken:
        broken.setattr(celery, "state", SimpleNamespace(reserved_requests=None))
        watchdog.check("w@h")
    for _ in range(MISSED_CHECKS):
        watchdog.check("w@h")
    assert sent == ["w@h", "w@h"]


def test_a_drain_that_is_in_sight_is_not_replaced(
    monkeypatch: pytest.MonkeyPatch, sent: list[str]
) -> None:
    watchdog = DrainWatchdog(SimpleNamespace())
    drain = SimpleNamespace(name=DRAIN)
    monkeypatch.setattr(celery, "state", SimpleNamespace(reserved_requests=[drain]))
    for _ in range(2 * MISSED_CHECKS):
        watchdog.check("w@h")
    assert sent == []
