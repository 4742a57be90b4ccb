"""What is known of the workers behind the queue and of the models that they serve, asked at most once a second."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from scoreline_client.async_client import AsyncClient
from scoreline_client.descriptions import ModelDescription, describe
from scoreline_client.errors import ScorelineError, ServerUnreachable, UnknownModel
from scoreline_client.fleet import ProcessReport, served_models, words_for_unknown
from scoreline_client.protocol.json_records import check_model
from scoreline_client.protocol.names import split_reference

FRESH_S = 1.0
"""Seconds for which a reading is not repeated; processes report every two."""
CHECK_S = 2.0
"""Seconds that a job waits to hear that its model is not known; after that it waits in the queue."""
MOST_DESCRIBED = 256
"""Models and versions whose columns are remembered."""


class Fleet:
    """The reports of worker processes, and the columns of the models that they serve."""

    def __init__(self, client: AsyncClient, timeout_s: float) -> None:
        self._transport = client.transport
        self._timeout_s = timeout_s
        self._reports: list[ProcessReport] = []
        self._read_at = -FRESH_S
        self._lock = asyncio.Lock()
        self._described: dict[str, tuple[float, ModelDescription]] = {}

    async def reports(self) -> list[ProcessReport]:
        """The reports of all processes that are alive.

        Raises:
            ServerUnreachable: Redis does not answer.
        """
        async with self._lock:
            if time.monotonic() - self._read_at >= FRESH_S:
                self._reports = await self._transport.guard(self._transport.reports())
                self._read_at = time.monotonic()
            return self._reports

    async def serving(self) -> dict[str, set[int]]:
        """The versions that serve each `<model>@<alias>`."""
        versions: dict[str, set[int]] = {}
        for _, models in served_models(await self.reports()):
            for name, served in models.items():
                versions.setdefault(name, set())
                if served.serving is not None:
                    versions[name].add(served.serving)
        return versions

    async def is_served(self, reference: str) -> bool | None:
        """Whether some process serves what a reference names; None where no report tells.

        None, too, for a version by number that no alias names: a process loads it once it is asked for.

        Raises:
            UnknownModel: the text is no reference.
        """
        name, alias, version = split_reference(check_model(reference))
        serving = await self.serving()
        if alias is not None:
            versions = serving.get(f"{name}@{alias}")
            return None if versions is None else bool(versions)
        is_serving = any(
            version in versions for key, versions in serving.items() if key.startswith(f"{name}@")
        )
        return True if is_serving else None

    async def check_known(self, reference: str) -> None:
        """Refuse a job at once whose model a worker does not know; a job goes on where no worker says so in time.

        Raises:
            UnknownModel: a worker says that there is no such version.
        """
        try:
            if await self.serving() and await self.is_served(reference) is None:
                await self.describe(reference, min(CHECK_S, self._timeout_s))
        except UnknownModel:
            raise
        except ScorelineError:
            pass  # the job waits in the queue for whatever is missing

    async def words_for_unknown(self, reference: str, models: frozenset[str] | None) -> str | None:
        """Why nobody answers to a reference, naming those of `models` that are served, or None where reports do not say.

        Which store workers read is the operator's business.
        """
        try:
            reports = [
                replace(
                    report,
                    store="",
                    models={
                        name: served
                        for name, served in report.models.items()
                        if models is None or name.partition("@")[0] in models
                    },
                )
                for report in await self.reports()
            ]
            return words_for_unknown(reference, reports)
        except (ValueError, ServerUnreachable):
            return None  # it is no reference, of which the error itself tells

    async def describe(self, reference: str, timeout_s: float | None = None) -> ModelDescription:
        """The version that a reference names now, and its columns and outputs.

        Raises:
            UnknownModel: there is no such version.
            NoAnswer, QueueFull, ServerUnreachable: as for the client's `predict`.
        """
        cached = self._described.get(reference)
        if cached is not None and time.monotonic() - cached[0] < FRESH_S:
            return cached[1]
        info = await describe(self._transport, reference, timeout_s or self._timeout_s)
        if len(self._described) >= MOST_DESCRIBED:
            self._described.clear()
        self._described[reference] = (time.monotonic(), info)
        return info
