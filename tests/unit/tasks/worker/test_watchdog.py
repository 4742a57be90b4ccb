"""The watchdog on Celery's timer, whose loop must not end with any failure of a check."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from scoreline_tasks.worker import watchdog as watchdog_module
from scoreline_tasks.worker.watchdog import MISSED_CHECKS, Watchdog


class FailingFirst(Watchdog):
    """Sends a drain, except for the first time."""

    task_name = "drain"

    def send_drain(self, node: str) -> None:
        self.sent = [*getattr(self, "sent", ()), node]
        if len(self.sent) == 1:
            raise AssertionError("such as Celery's own loop ends with")


def test_it_checks_again_after_any_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    watchdog = FailingFirst(SimpleNamespace())
    for _ in range(MISSED_CHECKS):
        watchdog.check("w@h")
    with monkeypatch.context() as broken:
        broken.setattr(watchdog_module, "state", SimpleNamespace(reserved_requests=None))
        watchdog.check("w@h")
    for _ in range(MISSED_CHECKS):
        watchdog.check("w@h")
    assert watchdog.sent == ["w@h", "w@h"]


def test_a_drain_that_is_in_sight_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    watchdog = FailingFirst(SimpleNamespace())
    drain = SimpleNamespace(name="drain")
    monkeypatch.setattr(watchdog_module, "state", SimpleNamespace(reserved_requests=[drain]))
    for _ in range(2 * MISSED_CHECKS):
        watchdog.check("w@h")
    assert not hasattr(watchdog, "sent")
