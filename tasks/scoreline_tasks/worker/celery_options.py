"""The options of `celery worker` with which it would not serve, and what to use in their place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

POOLS = {
    "scoreline_tasks.worker.process": "prefork",
    "celery.concurrency.solo": "solo",
    "celery.concurrency.thread": "threads",
}
"""The pools that serve, by the module of their class."""


def why_refused(options: Mapping[str, Any], pool: str) -> str | None:
    """Why a worker with these options would not serve; None if it would.

    `options` are Celery's, by the names of their parameters; `pool` is the module of the pool's class.
    """
    if options.get("queues"):
        return (
            f"-Q {_listed(options['queues'])}: the worker would not read the queues on which its own drains "
            "travel, and answer nothing. Set SCORELINE_QUEUE to choose the queue that it serves"
        )
    if options.get("exclude_queues"):
        return (
            f"-X {_listed(options['exclude_queues'])}: a worker reads its own Celery queues and no others. "
            "Set SCORELINE_QUEUE to choose the queue that it serves"
        )
    if pool not in POOLS:
        name = pool.rpartition(".")[2]
        return (
            f"-P {name}: pipelines compute, they do not wait, so green threads would serve one request after "
            f"the other and stop all others meanwhile. Use one of -P {', '.join(POOLS.values())}"
            if name in ("gevent", "eventlet")
            else f"the pool {pool} does not replace its children when a version is released. "
            f"Use one of -P {', '.join(POOLS.values())}"
        )
    if options.get("pool_start_method") not in (None, "fork"):
        return (
            f"--pool-start-method {options['pool_start_method']}: children inherit the versions that the main "
            "process has loaded, which only forks do. For processes without forks start several "
            "workers with -P solo"
        )
    if options.get("soft_time_limit"):
        return (
            "--soft-time-limit: it would interrupt a drain between taking requests and answering them. "
            "SCORELINE_BATCH_LIMIT_S limits the time of a batch"
        )
    return None


def _listed(names: Any) -> str:
    return names if isinstance(names, str) else ",".join(names)
