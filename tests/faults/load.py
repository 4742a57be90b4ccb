"""A seeded load: `python -m tests.faults.load PLAN` runs one client process until its standard input closes.

Half of its requests are jobs, half are lists whose answer is waited for, some of each in every second; besides,
threads of the same process ask for single records, one after the other, with the default time limit.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from scoreline_client import AsyncClient, Client
from scoreline_client.async_client import Coalescer
from scoreline_client.errors import (
    NoAnswer,
    QueueFull,
    RequestExpired,
    ScorelineError,
    ServerUnreachable,
)
from scoreline_client.protocol.json_records import encode_records, predictions_of
from scoreline_client.protocol.keys import Lane
from scoreline_client.protocol.messages import WireError, decode_reply, new_id
from scoreline_client.settings import ClientSettings
from scoreline_client.transport.dispatcher import Transport
from tests.faults.ledger import JOB, MANY, PREDICT, Writer

MODEL = "shift"
"""The model of the fleet of the acceptance tests, too."""
MOST_ROWS = 16
MOST_OPEN = 400
"""Requests of a process that may be open: a service that is away is not swamped when it is back."""
WAIT_S = 60.0
"""The time limit of a request, and of a job's caller: a worker that starts on a busy machine is away for half of it."""
THREADS = 2
THREAD_PAUSE_S = 0.03
AWAY = (ServerUnreachable, QueueFull)


@dataclass(frozen=True)
class Plan:
    """What one client process does."""

    url: str
    ledger: str
    seed: int
    rate: float
    """Requests a second, besides those of the threads."""
    threads: int = THREADS


class _CountedTransport(Transport):
    """Notes what is on the reply list, where a second answer to a request would be."""

    def __init__(self, settings: ClientSettings, ledger: Writer) -> None:
        super().__init__(settings)
        self._ledger = ledger

    async def _receive(self, replies: list[bytes]) -> None:
        for data in replies:
            try:
                self._ledger.replied(decode_reply(data).id)
            except WireError:
                continue
        await super()._receive(replies)


class _Caller:
    def __init__(self, client: AsyncClient, ledger: Writer, dice: random.Random) -> None:
        self.client, self.ledger, self.dice = client, ledger, dice
        self.open: set[asyncio.Task[None]] = set()

    def start_one(self) -> None:
        """Ask for 1 to 16 rows, one way or the other."""
        first = self.dice.randrange(1_000_000)
        xs = [float(first + row) for row in range(self.dice.randint(1, MOST_ROWS))]
        work = self.submit(xs) if self.dice.random() < 0.5 else self.ask(xs)
        task = asyncio.create_task(work)
        self.open.add(task)
        task.add_done_callback(self.open.discard)

    async def submit(self, xs: Sequence[float]) -> None:
        """Submit a job, note that it was accepted, and fetch its result."""
        begun = time.monotonic()
        try:
            job = await self.client.submit(MODEL, _records(xs), expires=120)
        except ScorelineError as error:
            self.ledger.refused(type(error).__name__, time.monotonic() - begun)
            return
        self.ledger.asked(job.id, JOB, xs)
        while True:
            left_s = begun + WAIT_S - time.monotonic()
            try:
                self._note(job.id, await job.result(max(0.1, left_s)))
            except ScorelineError as error:
                if isinstance(error, ServerUnreachable) and left_s > 0:
                    await asyncio.sleep(0.2)
                    continue
                self.ledger.failed(job.id, _name(error), accepted=True)
            return

    async def ask(self, xs: Sequence[float]) -> None:
        """Ask as `predict_many` does, which does not tell its request's id."""
        transport = self.client.transport
        body = encode_records(_records(xs)).body
        request = self.client.request(MODEL, body, WAIT_S)
        self.ledger.asked(request.id, MANY, xs)
        future = transport.send(request, Lane.ONLINE)
        pending = transport._pending.get(request.id)
        try:
            async with asyncio.timeout(WAIT_S):
                answer = await future
            self._note(request.id, predictions_of(answer))
        except TimeoutError:
            is_accepted = pending is not None and pending.entry is not None
            self.ledger.failed(request.id, NoAnswer.__name__, accepted=is_accepted)
        except ScorelineError as error:
            self.ledger.failed(request.id, _name(error), accepted=not isinstance(error, AWAY))

    def _note(self, request: str, predictions: Sequence[Any]) -> None:
        failed = [one.error.code for one in predictions if one.error]
        if failed:
            self.ledger.failed(request, failed[0], accepted=True)
        else:
            values = [one.value for one in predictions]
            self.ledger.answered(request, predictions[0].version, values)


def _records(xs: Sequence[float], trap: float = 0.0) -> list[dict[str, float]]:
    return [{"x": x, "trap": trap} for x in xs]


def _name(error: ScorelineError) -> str:
    if isinstance(error, RequestExpired):
        return RequestExpired.__name__
    return str(getattr(error, "code", "")) or type(error).__name__


def _single_records(client: Client, plan: Plan, number: int, stopped: threading.Event) -> None:
    ledger = Writer(Path(f"{plan.ledger}-{number}.jsonl"))
    dice = random.Random(plan.seed * 100 + number)
    while not stopped.wait(THREAD_PAUSE_S):
        x, request = float(dice.randrange(1_000_000)), f"{PREDICT}-{new_id()}"
        ledger.asked(request, PREDICT, [x])
        try:
            prediction = client.predict(MODEL, {"x": x, "trap": 0.0})
            ledger.answered(request, prediction.version, [prediction.value])
        except ScorelineError as error:
            ledger.failed(request, _name(error), accepted=not isinstance(error, AWAY))


async def _run(plan: Plan) -> None:
    settings = ClientSettings.from_environment(redis_url=plan.url)
    ledger, dice = Writer(Path(f"{plan.ledger}.jsonl")), random.Random(plan.seed)
    stopped = threading.Event()
    client = AsyncClient(settings=settings)
    here = client._on_loop()
    here.transport = _CountedTransport(settings, ledger)
    here.coalescer = Coalescer(here.transport)
    with Client(settings=settings) as for_threads:
        threads = [
            threading.Thread(target=_single_records, args=(for_threads, plan, number, stopped))
            for number in range(plan.threads)
        ]
        for thread in threads:
            thread.start()
        async with client:
            caller = _Caller(client, ledger, dice)
            until_closed = asyncio.create_task(asyncio.to_thread(sys.stdin.buffer.read))
            while not until_closed.done():
                await asyncio.sleep(dice.expovariate(plan.rate))
                if len(caller.open) < MOST_OPEN:
                    caller.start_one()
            stopped.set()
            while caller.open:
                await asyncio.wait(caller.open)
        for thread in threads:
            await asyncio.to_thread(thread.join)


@contextmanager
def running_load(
    url: str,
    folder: Path,
    *,
    seed: int,
    rate: float,
    processes: int = 2,
    prefix: Sequence[str] = (),
) -> Iterator[None]:
    """Load a queue for as long as the block lasts, and wait for its answers at the end."""
    root = Path(__file__).parents[2]
    clients = []
    for number in range(processes):
        ledger = str(folder / f"client-{seed}-{number}")
        plan = Plan(url, ledger, seed * 10 + number, rate / processes)
        command = [
            *prefix,
            sys.executable,
            "-m",
            "tests.faults.load",
            orjson.dumps(asdict(plan)).decode(),
        ]
        clients.append(subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE))
    try:
        yield
    finally:
        for client in clients:
            assert client.stdin is not None
            client.stdin.close()
        try:
            for client in clients:
                client.wait(WAIT_S * 3)
        finally:
            for client in clients:
                client.kill()
                client.wait()


if __name__ == "__main__":
    asyncio.run(_run(Plan(**orjson.loads(sys.argv[1]))))
