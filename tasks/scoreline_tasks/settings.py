"""The settings of a worker: those of the client and its own."""

from __future__ import annotations

import re
from dataclasses import dataclass

from scoreline_client.errors import SettingsError
from scoreline_client.settings import ClientSettings, at_least

IDLE_SLICES = 4
"""A slice in which nothing arrives is so many times as long: each one costs messages and commands."""


@dataclass(frozen=True, kw_only=True)
class WorkerSettings(ClientSettings):
    """What an operator may set. Each field is read from `SCORELINE_<NAME>`."""

    models: str = ""
    """The models that a worker loads, follows and answers for: names, or patterns such as `fraud-*`, with commas between
    them; empty for all of the store. It is to be the same for all workers of a queue, which share its requests: models
    for other machines have a queue of their own (`SCORELINE_QUEUE`)."""
    batch_records: int = at_least(1, 2048)
    """About how many records a drain takes from the online lane in one read; no request is divided."""
    slice_s: float = at_least(0.05, 2.0)
    """Seconds that a drain stays in its Celery task before it sends its successor; four times as many while nothing
    arrives."""
    lease_s: float = at_least(0.5, 5.0)
    """Seconds after which another worker claims requests that their worker stopped renewing."""
    batch_limit_s: float = at_least(1, 300)
    """Seconds that scoring one batch may take at the most, before its process is killed; versions that were seen to be
    quick have less."""
    poll_s: float = at_least(0.1, 2.0)
    """Seconds between two polls of the release logs, in case the news of a release got lost."""
    max_versions: int = at_least(1, 8)
    """Versions that a process keeps in memory for requests that name one (`pima@3`)."""
    load_limit_s: float = at_least(1, 120)
    """Seconds that the first, isolated load of a version may take before it is refused."""
    load_limit_mb: int = at_least(0, 0)
    """MiB of memory that loading a version may take; 0 for half of the machine's or container's."""
    memory_limit_mb: int = at_least(0, 0)
    """MiB of memory that a process which scores may take beside what it begins with; 0 for half of the machine's
    or container's. Beyond it, the batch that asks for more fails, or its process ends."""
    strict_environment: int = at_least(0, 0)
    """1 refuses versions that were trained with another minor version of Python, scikit-learn, numpy,
    pandas or dill; 0 leaves it to their golden rows."""
    serve_unreleased: int = at_least(0, 0)
    """1 lets requests name any version by number (`pima@3`); 0 only those that are or were released within seven
    days, that a rollback would restore, or that are pinned."""
    remote_control: int = at_least(0, 0)
    """1 lets `celery inspect` and `celery control` reach workers; 0 does not: nothing that is written to the
    server can then stop a worker."""
    suggestions: int = at_least(0, 1)
    """0 keeps messages from naming the value of training that was probably meant by another one: a caller who tries
    texts could learn training's values by it."""

    @property
    def model_patterns(self) -> tuple[str, ...]:
        """The patterns of `models`, as fnmatch has them; empty for all models.

        Raises:
            SettingsError: one of them matches no name that a model can have.
        """
        patterns = tuple(part.strip() for part in self.models.split(",") if part.strip())
        for pattern in patterns:
            if re.fullmatch(r"[a-z0-9_.*?!\[\]-]+", pattern) is None:
                raise SettingsError(
                    "SCORELINE_MODELS",
                    self.models,
                    "names of models, or patterns such as fraud-*, with commas between them; "
                    f"{pattern!r} is none of a model, of which all aliases are served",
                )
        return patterns
