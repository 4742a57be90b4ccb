"""A bulk job's client against the worker's own code, with nothing in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pandas as pd

from scoreline_artifacts import Schema
from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_client.errors import QueueFull, ServerUnreachable
from scoreline_client.files.reader import DEFAULT_SIZES, FileSizes
from scoreline_client.files.run import BulkProgress, ScoreSummary, score_file
from scoreline_client.options import BulkOptions
from scoreline_client.protocol.job_progress import JobProgress
from scoreline_client.protocol.keys import Lane
from scoreline_client.protocol.messages import Answer, Request
from scoreline_client.settings import ClientSettings
from scoreline_client.transport.dispatcher import Transport
from scoreline_client.transport.ordered import DEFAULT_TIMES, BulkTimes
from tests.support.models import Classifier
from tests.support.scoring import answer_to

LOADED = LoadedVersion.of(
    Classifier(lambda frame: frame["a"] > 5),
    "threshold",
    4,
    Schema.infer(pd.DataFrame({"a": [1.5]})),
)
"""Says yes to what is over 5."""


def answer(request: Request) -> Answer:
    """What a worker answers."""
    return answer_to(request, LOADED)


class StubTransport:
    """Hands every request to a function, and answers the newest first."""

    client_id = "0" * 32
    was_reached = True

    def __init__(self, respond: Callable[[Request], Answer | None] = answer) -> None:
        self.sent: list[tuple[Request, Lane]] = []
        self.most_waiting = 0
        self.processes = 2
        self.jobs = 1
        self.answers_after = 0
        """Requests that must be there before any of them is answered."""
        self.ended: list[str] = []
        self.told: list[JobProgress] = []
        self.asked: list[tuple[Request, asyncio.Future[Answer]]] = []
        """Every request with the future of its answer."""
        self._respond = respond
        self._waiting: list[tuple[Request, asyncio.Future[Answer]]] = []

    def send(
        self,
        request: Request,
        lane: Lane,
        *,
        accept_s: float | None = None,
    ) -> asyncio.Future[Answer]:
        self.sent.append((request, lane))
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((request, future))
        self.asked.append((request, future))
        self.most_waiting = max(self.most_waiting, len(self._waiting))
        loop.call_later(0.001, self._answer_newest)
        return future

    def _answer_newest(self) -> None:
        if len(self.sent) < self.answers_after:
            asyncio.get_running_loop().call_later(0.001, self._answer_newest)
            return
        request, future = self._waiting.pop()
        try:
            found = self._respond(request)
        except (QueueFull, ServerUnreachable) as error:
            future.set_exception(error)
            return
        if found is not None and not future.done():
            future.set_result(found)

    async def ask(self, request: Request, lane: Lane, timeout_s: float) -> Answer:
        return await self.send(request, lane)

    async def process_count(self) -> int:
        return self.processes

    async def renew_job(self, job: str, lease_ms: int) -> tuple[bool, int]:
        return True, self.jobs

    async def tell_progress(self, job: str, progress: bytes, lease_ms: int) -> None:
        self.told.append(JobProgress.decode(progress))

    async def end_job(self, job: str) -> None:
        self.ended.append(job)

    async def is_lost(self, request: Request) -> bool:
        return False

    async def diagnose(self, request_id: str = "") -> str:
        return "no worker is alive"


def run(
    source: Path | str,
    target: Path | str,
    *,
    transport: StubTransport | None = None,
    model: str = "threshold",
    progress: Callable[[BulkProgress], None] | None = None,
    state: Path | str = "",
    sizes: FileSizes = DEFAULT_SIZES,
    times: BulkTimes = DEFAULT_TIMES,
    **options: Any,
) -> ScoreSummary:
    """Score a file against the worker's code."""
    return asyncio.run(
        score_file(
            cast("Transport", transport or StubTransport()),
            ClientSettings(state=str(state)),
            model,
            str(source),
            str(target),
            options=BulkOptions(**options),
            progress=progress,
            sizes=sizes,
            times=times,
        )
    )


CSV = "id,a\n1,9\n2,x\n"
"""A file of which the second row is rejected."""
SMALL = FileSizes(
    smallest_chunk_bytes=2048, largest_chunk_bytes=2048, fewest_chunk_rows=100, block_bytes=5000
)
"""Many chunks in a small file, and many blocks in a small output."""


def names_in(folder: Path) -> list[str]:
    """What is in a directory."""
    return sorted(one.name for one in folder.iterdir())
