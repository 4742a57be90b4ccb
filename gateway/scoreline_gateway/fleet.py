"""What is known of the workers behind the queue and of the models that they serve, asked at most once a second."""

from __future__ import annotations

import asyncio
import time

from scoreline_client.async_client import AsyncClient
from scoreline_client.descriptions import ModelDescription, describe
from scoreline_client.fleet import ProcessReport, served_models
from scoreline_client.protocol.json_records import check_model
from scoreline_client.protocol.names import split_reference

FRESH_S = 1.0
"""Seconds for which what was read counts as the present; processes report every two."""
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
        """The versions that serve, of each model and alias by `<model>@<alias>`."""
        versions: dict[str, set[int]] = {}
        for _, models in served_models(await self.reports()):
            for name, served in models.items():
                versions.setdefault(name, set())
                if served.serving is not None:
                    versions[name].add(served.serving)
        return versions

    async def is_served(self, reference: str) -> bool | None:
        """Whether some process serves what a reference names; None where no report says anything of it.

        A version by number that no alias names is loaded by the process that is asked for it: None.

        Raises:
            UnknownModel: it is no reference.
        """
        name, alias, version = split_reference(check_model(reference))
        serving = await self.serving()
        if alias is not None:
            versions = serving.get(f"{name}@{alias}")
            return None if versions is None else bool(versions)
        of_model = [each for key, each in serving.items() if key.startswith(f"{name}@")]
        return True if any(version in each for each in of_model) else None

    async def describe(self, reference: str) -> ModelDescription:
        """The version that a reference names now, and its columns and outputs.

        Raises:
            UnknownModel: there is no such version.
            NoAnswer, QueueFull, ServerUnreachable: as for the client's `predict`.
        """
        known = self._described.get(reference)
        if known is not None and time.monotonic() - known[0] < FRESH_S:
            return known[1]
        info = await describe(self._transport, reference, self._timeout_s)
        if len(self._described) >= MOST_DESCRIBED:
            self._described.clear()
        self._described[reference] = (time.monotonic(), info)
        return info
