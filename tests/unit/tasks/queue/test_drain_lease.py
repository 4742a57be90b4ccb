"""What a process has in hand stays its own, also where its tasks run in threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from redis.exceptions import RedisError

from scoreline_client.protocol.keys import Lane
from scoreline_tasks.queue.drain import Lease
from scoreline_tasks.scoring.batch import Entry

LONG = [Entry(Lane.BULK, b"1-0", {})]
SHORT = [Entry(Lane.ONLINE, b"2-0", {}), Entry(Lane.ONLINE, b"3-0", {})]


class Renewals:
    """Stands for the queue: notes what is renewed, after failing as often as it is to."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.renewed: list[set[bytes]] = []

    def renew(self, entries: Iterable[Entry]) -> None:
        if self.failures:
            raise self.failures.pop()
        self.renewed.append({one.id for one in entries})


def _lease(queue: Renewals, *, lease_s: float = 3600, limit_s: float = 60) -> Lease:
    return Lease(queue, lease_s=lease_s, limit_s=limit_s)  # type: ignore[arg-type]


def test_all_batches_in_hand_are_renewed_until_each_of_them_ends() -> None:
    queue = Renewals()
    lease = _lease(queue)
    with lease.hold(LONG):
        with lease.hold(SHORT):
            lease.renew()
        lease.renew()
    lease.renew()
    assert queue.renewed == [{b"1-0", b"2-0", b"3-0"}, {b"1-0"}]


def test_a_batch_of_another_thread_does_not_end_the_lease_of_a_longer_one() -> None:
    queue = Renewals()
    lease = _lease(queue)

    def answer_a_short_one() -> None:
        with lease.hold(SHORT):
            pass

    with lease.hold(LONG):
        thread = threading.Thread(target=answer_a_short_one)
        thread.start()
        thread.join()
        lease.renew()
    assert queue.renewed == [{b"1-0"}]


def test_a_batch_that_runs_too_long_is_not_renewed() -> None:
    queue = Renewals()
    lease = _lease(queue, limit_s=0)
    with lease.hold(LONG):
        lease.renew()
    assert queue.renewed == []


@pytest.mark.parametrize("failure", [RedisError("away"), OSError("no descriptor"), ValueError("x")])
def test_renewing_goes_on_after_a_failure(
    failure: Exception, eventually: Callable[..., Any]
) -> None:
    queue = Renewals(failure)
    lease = _lease(queue, lease_s=0.003)
    lease.start()
    with lease.hold(LONG):
        eventually(lambda: queue.renewed)
    lease.stop()
