"""Which of Celery's options a worker refuses, and what it advises in their place."""

from __future__ import annotations

from typing import Any

import pytest

from scoreline_tasks.worker.celery_options import POOLS, why_refused

OURS = "scoreline_tasks.worker.process"


@pytest.mark.parametrize("pool", POOLS)
def test_the_usual_options_are_taken(pool: str) -> None:
    options = {
        "queues": None,
        "exclude_queues": [],
        "pool_start_method": "fork",
        "soft_time_limit": None,
        "autoscale": (4, 1),
        "max_tasks_per_child": 10,
        "max_memory_per_child": 10_000,
        "without_mingle": True,
    }
    assert why_refused(options, pool) is None
    assert why_refused({}, pool) is None


@pytest.mark.parametrize(
    ("options", "pool", "option", "advice"),
    [
        ({"queues": ["high", "low"]}, OURS, "-Q high,low", "SCORELINE_QUEUE"),
        ({"queues": "high"}, OURS, "-Q high", "SCORELINE_QUEUE"),
        ({"exclude_queues": ["low"]}, OURS, "-X low", "SCORELINE_QUEUE"),
        ({}, "celery.concurrency.gevent", "-P gevent", "-P prefork, solo, threads"),
        ({}, "celery.concurrency.eventlet", "-P eventlet", "-P prefork, solo, threads"),
        ({}, "celery.concurrency.prefork", "celery.concurrency.prefork", "-P prefork, solo"),
        ({}, "acme.pools", "acme.pools", "-P prefork, solo, threads"),
        ({"pool_start_method": "spawn"}, OURS, "--pool-start-method spawn", "-P solo"),
        ({"soft_time_limit": 3.0}, OURS, "--soft-time-limit", "SCORELINE_BATCH_LIMIT_S"),
    ],
)
def test_an_option_with_which_nothing_would_be_answered_is_named_with_what_to_use_instead(
    options: dict[str, Any], pool: str, option: str, advice: str
) -> None:
    reason = str(why_refused(options, pool))
    assert option in reason
    assert advice in reason
